import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nakt_fed.losses import EPSILON, UNKNOWN, dice_bce, dice_loss
from tests.reference.losses import Real, plain_cross_entropy, plain_dice

levels = st.binary(min_size=48, max_size=48).map(
    lambda pixels: np.frombuffer(pixels, np.uint8).reshape(2, 2, 3, 4) / 255
)
logits_of = st.builds(lambda share, reach: (2 * share - 1) * reach, levels, st.sampled_from([0.1, 3.0, 20.0]))


@given(logits_of, levels)
@settings(max_examples=30, deadline=None)
def test_agrees_with_the_equations(logits: Real, target: Real) -> None:
    z, y = torch.from_numpy(logits), torch.from_numpy(target)
    assert float(dice_loss(z, y)) == pytest.approx(plain_dice(logits, target, EPSILON), abs=1e-9)
    expected = plain_dice(logits, target, EPSILON) + plain_cross_entropy(logits, target)
    assert float(dice_bce(z, y)) == pytest.approx(expected, abs=1e-5)


def test_by_hand() -> None:
    """p = 1/2 everywhere, half of 4 pixels are targets: Dice 1 − (2·1 + 1)/(2 + 2 + 1) = 0.4; cross entropy ln 2."""
    z, y = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert float(dice_loss(z, y)) == pytest.approx(0.4)
    assert float(dice_bce(z, y)) == pytest.approx(0.4 + np.log(2))


def test_an_empty_mask_answered_empty_costs_nothing() -> None:
    nothing = torch.full((1, 1, 8, 8), -40.0)
    assert float(dice_bce(nothing, torch.zeros(1, 1, 8, 8))) == pytest.approx(0, abs=1e-6)


def test_an_empty_mask_answered_full_costs_most() -> None:
    """Dice 1 − 1/(64 + 1); cross entropy is the logit itself."""
    everything = torch.full((1, 1, 8, 8), 40.0)
    assert float(dice_bce(everything, torch.zeros(1, 1, 8, 8))) == pytest.approx(1 - 1 / 65 + 40, rel=1e-5)


def test_a_perfect_answer_costs_nothing() -> None:
    y = (torch.arange(64).reshape(1, 1, 8, 8) % 3 == 0).float()
    assert float(dice_bce(80 * y - 40, y)) == pytest.approx(0, abs=1e-6)


def test_images_count_alike_whatever_the_size_of_their_target() -> None:
    """Two images, one missed wholly, one hit wholly: the mean of 1 − 1/65 and 0, not the Dice of the union."""
    z = torch.full((2, 1, 8, 8), -40.0)
    y = torch.zeros(2, 1, 8, 8)
    y[0] = 1
    assert float(dice_loss(z, y)) == pytest.approx((1 - 1 / 65) / 2, rel=1e-5)


def test_far_logits_stay_finite_with_their_gradients() -> None:
    z = torch.tensor([-1e4, 1e4, -1e4, 1e4]).reshape(1, 1, 2, 2).requires_grad_()
    loss = dice_bce(z, torch.tensor([0.0, 0.0, 1.0, 1.0]).reshape(1, 1, 2, 2))
    loss.backward()
    assert torch.isfinite(loss)
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_half_precision_is_computed_in_float32() -> None:
    """1,048,576 target pixels are beyond float16's 65504."""
    z = torch.full((1, 1, 1024, 1024), 10.0, dtype=torch.float16)
    loss = dice_bce(z, torch.ones_like(z))
    assert loss.dtype == torch.float32
    assert float(loss) < 1e-3


@given(logits_of, levels)
@settings(max_examples=30, deadline=None)
def test_the_overlap_as_minimum(logits: Real, target: Real) -> None:
    """Against the reference; and what is learned from a soft target is least where the answer is the target itself."""
    z, y = torch.from_numpy(logits), torch.from_numpy(target)
    loss = float(dice_loss(z, y, overlap="minimum"))
    assert loss == pytest.approx(plain_dice(logits, target, EPSILON, minimum=True), abs=1e-9)
    assert loss >= float(dice_loss(torch.logit(y), y, overlap="minimum")) - 1e-9 == pytest.approx(0, abs=1e-6)


@given(logits_of, levels)
@settings(max_examples=30, deadline=None)
def test_on_binary_masks_both_overlaps_are_one(logits: Real, target: Real) -> None:
    z, y = torch.from_numpy(logits), torch.from_numpy((target > 0.5).astype(float))
    assert float(dice_loss(z, y, overlap="minimum")) == pytest.approx(float(dice_loss(z, y)), abs=1e-12)


def test_equation_1_on_a_soft_target_prefers_an_answer_of_one() -> None:
    """Why there is another overlap: with p·y, answering 1 where the target is 0.7 costs less than answering 0.7."""
    y = torch.full((1, 1, 8, 8), 0.7)
    sure, same = torch.full_like(y, 40.0), torch.logit(y)
    assert dice_loss(sure, y) < dice_loss(same, y)
    assert dice_loss(sure, y, overlap="minimum") > dice_loss(same, y, overlap="minimum")


@given(logits_of, levels, st.sampled_from([[[1, 1], [1, 1]], [[1, 0], [1, 1]], [[0, 1], [1, 0]], [[1, 0], [1, 0]]]))
@settings(max_examples=30, deadline=None)
def test_a_class_counts_on_the_pictures_of_which_it_is_known(
    logits: Real, target: Real, known: list[list[int]]
) -> None:
    """The mean over the classes of each one's own loss; what stands where it is not known is never looked at."""
    z, y = torch.from_numpy(logits).requires_grad_(), torch.from_numpy(target.copy())
    y[~torch.tensor(known, dtype=torch.bool)] = UNKNOWN
    rows = [[i for i in (0, 1) if known[i][c]] for c in (0, 1)]
    alone = [dice_bce(z[some][:, [c]], y[some][:, [c]]) for c, some in enumerate(rows) if some]
    loss = dice_bce(z, y)
    assert loss.item() == pytest.approx(sum(part.item() for part in alone) / len(alone), rel=1e-4, abs=1e-5)
    loss.backward()
    assert torch.isfinite(z.grad).all()  # type: ignore[arg-type]
    assert not z.grad[~torch.tensor(known, dtype=torch.bool)].any()  # type: ignore[index]


def test_an_unknown_plane_stays_unknown_when_it_is_turned() -> None:
    from nakt_fed.augment import augment

    masks = torch.full((16, 2, 32, 32), UNKNOWN)
    masks[:, 1] = 0.5
    _, turned = augment(torch.zeros(16, 1, 32, 32), masks, "paper", torch.Generator().manual_seed(0))
    assert (turned.amin(dim=(2, 3)) < 0).tolist() == [[True, False]] * 16
