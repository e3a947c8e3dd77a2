"""Every scheme against its formula in plain Python (tests/reference/weighting.py) or a value worked out by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nakt_fed.study.tables import FusionSpec
from nakt_fed.weightings.bound import Combiner
from nakt_fed.weightings.learned import on_simplex
from nakt_fed.weightings.patterns import patterns_of
from nakt_fed.weightings.scheme import Answers
from nakt_fed.weightings.selection import rasa, simple
from nakt_fed.weightings.shapley import Game
from nakt_fed.weightings.staple import posterior
from tests.reference import weighting as plain

SHAPE = (2, 3, 2)
few = settings(max_examples=40, deadline=None)
masks = st.binary(min_size=12, max_size=12).map(lambda pixels: np.frombuffer(pixels, np.uint8).reshape(SHAPE))
answers = st.lists(masks, min_size=1, max_size=6)
Masks = NDArray[np.uint8]


def fused(name: str, stack: list[Masks], **options: Any) -> Masks:
    fusion = FusionSpec(weighting=name, options=options)
    return Combiner(fusion, {f"s{k}": {"binary": False} for k in range(len(stack))})(by_site(stack))


def by_site(stack: list[Masks]) -> dict[str, Masks]:
    return {f"s{k}": masks for k, masks in enumerate(stack)}


def levels(stack: list[Masks]) -> plain.Levels:
    return [masks.ravel().tolist() for masks in stack]


Reference = Callable[[plain.Levels], Any]
EXACT: dict[str, Reference] = {
    "majority": plain.voted,
    "median": plain.middle,
    "trimmed_mean": lambda rows: plain.trimmed(rows, len(rows) // 5),
}
NEAR: dict[str, Reference] = {
    "confidence": lambda rows: plain.per_pixel(rows, lambda p: max(plain.certainty(p), 1 / 65535)),
    "variance": lambda rows: plain.per_pixel(rows, lambda p: max(plain.logit_variance(p), 1e-4)),
    "geometric_mean": plain.log_pool,
    "era": lambda rows: plain.entropy_reduced(rows, 0.1),
}


@pytest.mark.parametrize("name", EXACT)
@few
@given(answers)
def test_exactly_the_formula(name: str, stack: list[Masks]) -> None:
    assert fused(name, stack).ravel().tolist() == EXACT[name](levels(stack))


@pytest.mark.parametrize("name", NEAR)
@few
@given(answers)
def test_the_formula_rounded(name: str, stack: list[Masks]) -> None:
    """Half a level by rounding; weights and logits in fixed point move it by less than a tenth more."""
    tolerance = 0.75 if name == "variance" else 0.6  # the floor of its weights is coarser than theirs
    assert np.abs(fused(name, stack).ravel() - np.array(NEAR[name](levels(stack)))).max() <= tolerance


def test_confidence_by_hand() -> None:
    """1 − H(0.2)/ln 2 = 0.27807, 1 − H(0.6)/ln 2 = 0.02905: (0.27807 · 51 + 0.02905 · 153) / 0.30712 = 60.65."""
    assert fused("confidence", [np.full(SHAPE, 51, np.uint8), np.full(SHAPE, 153, np.uint8)])[0, 0, 0] == 61


def test_geometric_mean_by_hand() -> None:
    """p = 0.2 and 0.6: √(0.12) / (√0.12 + √0.32) = 0.37979, × 255 = 96.85."""
    assert fused("geometric_mean", [np.full(SHAPE, 51, np.uint8), np.full(SHAPE, 153, np.uint8)])[0, 0, 0] == 97


def test_entropy_reduction_by_hand() -> None:
    """p̄ = 0.4: sigmoid(−0.2 / 0.1) = 0.1192, × 255 = 30.40; at T = 1 sigmoid(−0.2) = 0.4502, × 255 = 114.79."""
    stack = [np.full(SHAPE, 51, np.uint8), np.full(SHAPE, 153, np.uint8)]
    assert fused("era", stack)[0, 0, 0] == 30
    assert fused("era", stack, temperature=1.0)[0, 0, 0] == 115


def test_a_vote_that_is_tied_goes_by_the_mean() -> None:
    """(128 + 120) / 2 < 127.5 < (128 + 127 + 200 + 100) / 4."""
    low, high = ([np.full(SHAPE, q, np.uint8) for q in row] for row in ((128, 120), (128, 127, 200, 100)))
    assert (fused("majority", low) == 0).all()
    assert (fused("majority", high) == 255).all()


def row(*pixels: int) -> Masks:
    return np.array([[pixels]], np.uint8)


def test_agreement_by_hand() -> None:
    """Masks {0,1}, {0,1}, {1,2}: Dice 1, 0.5, 0.5, so the means are 0.75, 0.75, 0.5: weights 3 : 3 : 2 of 8."""
    stack = [row(255, 255, 0), row(255, 255, 0), row(0, 255, 255)]
    assert fused("agreement", stack).tolist() == [[[191, 255, 64]]]  # 6/8 · 255 = 191.25, 2/8 · 255 = 63.75


def test_agreement_of_nobody_is_the_mean() -> None:
    assert fused("agreement", [row(200, 0), row(0, 200)]).tolist() == [[[100, 100]]]


def test_simple_drops_who_is_far_from_the_vote() -> None:
    """Three agree on {0,1}, one says {2}: its Dice 0 is below 0.75 − 0.433; the others have Dice 1."""
    stack = [row(200, 180, 20), row(180, 200, 0), row(190, 190, 10), row(0, 0, 255)]
    assert fused("simple", stack).tolist() == [[[190, 190, 10]]]


def test_simple_keeps_more_than_half() -> None:
    """Five masks, each another pixel larger: Dice with the vote {0,1,2} 2/4, 4/5, 1, 6/7, 6/8; of those the best three at least stay."""
    stack = [row(*[255] * size, *[0] * (5 - size)) for size in range(1, 6)]
    weights = simple(Answers(by_site(stack)), alpha=0.0)
    assert sum(bool(weight[0]) for weight in weights.values()) == 3


@few
@given(st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=6))
def test_rasa_is_the_reference(rows: list[list[bool]]) -> None:
    stack = [np.array(each, np.uint8).reshape(1, 3, 4) * 255 for each in rows]
    weights = np.array([weight[0] for weight in rasa(Answers(by_site(stack))).values()])
    assert weights / weights.sum() == pytest.approx(plain.rasa(np.array(rows)))


@few
@given(st.lists(st.lists(st.booleans(), min_size=20, max_size=20), min_size=1, max_size=6))
def test_staple_is_em_on_pixels(rows: list[list[bool]]) -> None:
    """Patterns instead of pixels change nothing, step by step."""
    stack = [np.array(each, np.uint8).reshape(1, 4, 5) * 255 for each in rows]
    found = patterns_of(stack)
    ours = posterior(found, 20)[found.places].ravel()
    assert np.abs(ours - plain.staple(np.array(rows), 20)).max() < 1e-4


def discs(seed: int) -> list[Masks]:
    """Five raters of one disc, each shifted and of another size."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :48]
    places = rng.normal([24, 24, 12], [2, 2, 1.5], (5, 3))
    return [((np.hypot(x - u, y - v) < r) * 255).astype(np.uint8)[None] for u, v, r in places]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # SWIG's own types
@pytest.mark.parametrize("seed", range(5))
def test_staple_is_simpleitk(seed: int) -> None:
    import SimpleITK as sitk  # its types warn when it is imported

    stack = discs(seed)
    images = [sitk.GetImageFromArray((masks[0] > 127).astype(np.uint8)) for masks in stack]
    theirs = sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0))
    assert np.abs(fused("staple", stack)[0] - 255 * theirs).max() <= 0.51


def test_patterns_of_many_sites_are_those_of_few() -> None:
    """Above 16 sites codes are sorted instead of counted; doubled sites vote alike."""
    stack = discs(1) * 4
    many, few_ = patterns_of(stack), patterns_of(stack[:5])
    assert sorted(many.counts.tolist()) == sorted(few_.counts.tolist())
    np.testing.assert_array_equal(many.votes[many.places][..., :5], few_.votes[few_.places])
    np.testing.assert_array_equal(many.votes[many.places][0, :, :, 17], stack[17][0] > 127)


surer = st.lists(
    st.lists(st.sampled_from([0, 10, 40, 100, 140, 215, 255]), min_size=6, max_size=6), min_size=1, max_size=5
)


def game(rows: plain.Levels, gate: float) -> Game:
    found = Game(len(rows), gate)
    found.add([np.array(each, np.uint8).reshape(2, 3) for each in rows])
    return found


@few
@given(surer)
def test_shapley_is_the_mean_over_all_orders(rows: plain.Levels) -> None:
    assert game(rows, 0.8).exact() / 255 == pytest.approx(plain.shapley(rows, 0.8))


def test_shapley_by_hand() -> None:
    """One pixel, all sure, two say target: Q is 1 for each alone, 2 for the two and for all, 0 for a tie.

    One of the two adds 1 as the first (2 of 6 orders), 1 after its like, −1 after the third (1 of 6 each) and 2 as the last:
    (2 + 1 − 1 + 4) / 6 = 1. The third: (2 · 1 − 1 − 1 + 0) / 6 = 0.
    """
    found = Game(3, 0.8)
    found.add([np.array([[level]], np.uint8) for level in (255, 255, 0)])
    assert found.exact() / 255 == pytest.approx([1, 1, 0])


def test_many_sites_are_sampled_without_bias() -> None:
    """Nine sites: the values add up to the quality of all, and equal sites have nearly equal values."""
    rows = [[255, 255, 0, 0, 0, 0]] * 8 + [[0, 0, 0, 0, 255, 255]]
    found = game(rows, 0.8)
    values = found.sampled(400, seed=0) / 255
    assert values.sum() == pytest.approx(plain.consensus_quality(rows, tuple(range(9)), 0.8))
    assert values[:8] == pytest.approx(values[:8].mean(), rel=0.15)
    assert abs(values[8]) < 0.2 < values[0]


def test_learned_weights_are_those_of_a_general_solver() -> None:
    from scipy.optimize import minimize

    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 2, 200) * 255.0
        wrong = np.stack([truth + rng.normal(0, 40 + 30 * k, 200) for k in range(4)]) - truth
        errors = wrong @ wrong.T
        start = np.full(4, 0.25)
        on = {"type": "eq", "fun": lambda w: w.sum() - 1}
        best = minimize(lambda w, e=errors: w @ e @ w / e[0, 0], start, bounds=[(0, 1)] * 4, constraints=on, tol=1e-12)
        assert on_simplex(errors) == pytest.approx(best.x, abs=1e-4)


def test_learned_weights_by_hand() -> None:
    """Errors ±: a site off by 1 and one off by −2 cancel at 2 : 1; without anything wrong all count alike."""
    assert on_simplex(np.outer([1.0, -2.0], [1.0, -2.0])) == pytest.approx([2 / 3, 1 / 3], abs=1e-5)
    assert on_simplex(np.zeros((2, 2))).tolist() == [0.5, 0.5]
    assert on_simplex(np.ones((3, 3))) == pytest.approx([1 / 3] * 3, abs=1e-6)
