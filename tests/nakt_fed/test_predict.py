import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nakt_fed.data.synthetic import synthetic_set
from nakt_fed.errors import AnswerError
from nakt_fed.networks import build_network
from nakt_fed.predict import BATCH, normalise, probabilities, quantise, soft_masks, to_input
from nakt_fed.recipe import NetworkSpec

PICTURES = synthetic_set(BATCH + 5, 32, seed=1).images
SPECS = [
    NetworkSpec(network="unet", width=4),
    NetworkSpec(network="sdunet", width=16),
    NetworkSpec(network="deeplabv3plus", encoder="resnet18"),
]


def network(spec: NetworkSpec) -> nn.Module:
    """Random weights and, as after a training, the statistics of real pictures, so that answers differ from pixel to pixel."""
    torch.manual_seed(5)
    model = build_network(spec).train()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        model(normalise(to_input(PICTURES)))
    return model


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.network)
def test_an_answer_does_not_depend_on_the_chunks(spec: NetworkSpec) -> None:
    """To the last bit, also before rounding to 256 levels."""
    model = network(spec)
    whole = probabilities(model, PICTURES)
    assert len(np.unique(whole)) > 1000, "an answer that is the same everywhere would prove nothing"
    for chunk in (1, 3, 8):
        parts = [probabilities(model, PICTURES[start : start + chunk]) for start in range(0, len(PICTURES), chunk)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert soft_masks(model, PICTURES).tobytes() == quantise(whole).tobytes()


def test_an_answer_is_the_sigmoid_of_the_logits() -> None:
    model = network(SPECS[0]).eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(PICTURES[:8, None].astype(np.float32)) / 127.5 - 1)
    expected = 1 / (1 + np.exp(-logits[:, 0].double().numpy()))
    np.testing.assert_allclose(probabilities(model, PICTURES[:8]), expected, atol=1e-5)


def test_predicting_leaves_the_network_in_evaluation_mode_and_unchanged() -> None:
    model = network(SPECS[0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    soft_masks(model.train(), PICTURES[:3])
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_no_picture_gives_no_mask() -> None:
    assert soft_masks(network(SPECS[0]), PICTURES[:0]).shape == (0, 32, 32)


def test_inputs() -> None:
    """0, 51 and 255 are 0, 0.2 and 1; networks see −1, −0.6 and 1."""
    x = to_input(np.array([[[0, 51, 255]]], np.uint8))
    assert (x.dtype, x.shape) == (torch.float32, (1, 1, 1, 3))
    np.testing.assert_allclose(x.flatten(), [0, 0.2, 1])
    np.testing.assert_allclose(normalise(x).flatten(), [-1, -0.6, 1], atol=1e-7)


@pytest.mark.parametrize("model", [nn.Conv2d(1, 2, 1), nn.MaxPool2d(2)], ids=["two channels", "half the size"])
def test_another_shape_is_refused(model: nn.Module) -> None:
    model.register_parameter("some", nn.Parameter(torch.zeros(1)))
    with pytest.raises(AnswerError, match=r"for a picture of \(32, 32\); expected logits \(1, H, W\)"):
        soft_masks(model, PICTURES[:1])


class Poisoned(nn.Conv2d):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) * torch.nan


def test_nan_is_refused() -> None:
    with pytest.raises(AnswerError, match="NaN or infinity; check its weights"):
        soft_masks(Poisoned(1, 1, 1), PICTURES[:1])


def soft(value: float) -> np.ndarray:
    return np.array([[[0.5, value]]], np.float32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused(value: float) -> None:
    with pytest.raises(AnswerError, match="NaN or infinity"):
        quantise(soft(value))


@pytest.mark.parametrize("value", [-0.1, 1.001, 7.5])
def test_logits_are_refused_with_their_range(value: float) -> None:
    low, high = sorted([0.5, value])
    with pytest.raises(AnswerError, match=rf"lies in {low:.3g}\.\.{high:.3g}, .* logits without sigmoid"):
        quantise(soft(value))


@given(st.floats(0, 1, width=32))
@settings(deadline=None)
def test_quantised_to_the_nearest_of_256_levels(p: float) -> None:
    [[[q]]] = quantise(np.array([[[p]]], np.float32)).tolist()
    assert abs(q - 255 * p) <= 0.5 + 1e-4  # 255 · p is rounded to float32


def test_a_binary_teacher_says_0_or_255() -> None:
    """One half is no target: y > 0.5."""
    answer = quantise(np.array([[[0, 0.5, 0.5000001, 1]]]), binary=True)
    assert answer.tolist() == [[[0, 0, 255, 255]]]
    assert answer.dtype == np.uint8
