import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import stats
from torchmetrics.functional.classification import binary_jaccard_index

from nakt_fed.errors import DataError
from nakt_fed.metrics import dice, iou, ktc, paired_bootstrap, summary
from tests.reference.metrics import set_dice, set_iou

pairs = array_shapes(min_dims=3, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)

P = np.array([[[1, 1], [0, 0]], [[0, 0], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]], bool)
T = np.array([[[1, 0], [1, 1]], [[0, 0], [0, 0]], [[0, 0], [0, 0]], [[0, 1], [0, 0]]], bool)


def test_dice_by_hand() -> None:
    """First picture: 1 pixel in common, 2 + 3 in all, 2·1/5. Then both empty, truth empty, prediction empty."""
    np.testing.assert_array_equal(dice(P, T), [0.4, 1, 0, 0])


def test_iou_by_hand() -> None:
    """First picture: 1 pixel in common of 4."""
    np.testing.assert_array_equal(iou(P, T), [0.25, 1, 0, 0])


@given(pairs)
@settings(deadline=None)
def test_overlap_agrees_with_sets_of_pixels(pair: tuple[np.ndarray, np.ndarray]) -> None:
    expected = [[f(p, t) for p, t in zip(*pair, strict=True)] for f in (set_dice, set_iou)]
    np.testing.assert_allclose([dice(*pair), iou(*pair)], expected, rtol=1e-15)


@given(pairs)
@settings(deadline=None)
def test_overlap_is_symmetric_and_iou_follows_from_dice(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """IoU = D / (2 − D), also for empty masks."""
    prediction, truth = pair
    d = dice(prediction, truth)
    np.testing.assert_array_equal(d, dice(truth, prediction))
    np.testing.assert_array_equal(dice(truth, truth), 1)
    np.testing.assert_allclose(iou(prediction, truth), d / (2 - d), rtol=1e-12)
    assert d.dtype == np.float64


def test_iou_agrees_with_torchmetrics() -> None:
    prediction, truth = np.random.default_rng(0).random((2, 5, 16, 16)) < 0.4
    expected = [
        binary_jaccard_index(torch.from_numpy(p), torch.from_numpy(t)).item()
        for p, t in zip(prediction, truth, strict=True)
    ]
    np.testing.assert_allclose(iou(prediction, truth), expected, rtol=1e-6)


def test_overlap_needs_memory_of_a_picture_only() -> None:
    """2,000 masks of 128×128 are 33 MB; a picture is 16 KB."""
    masks = np.zeros((2000, 128, 128), bool)
    tracemalloc.start()
    dice(masks, masks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


@pytest.mark.parametrize("metric", [dice, iou])
def test_unusable_masks_are_refused(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(DataError, match="bool, got uint8 and bool; threshold"):
        metric(P.astype(np.uint8), T)
    with pytest.raises(DataError, match="one shape"):
        metric(P[:2], T)
    with pytest.raises(DataError, match="first axis"):
        metric(P[0], T[0])


def test_no_pictures_have_no_values() -> None:
    assert dice(P[:0], T[:0]).shape == (0,)


def test_ktc_is_a_percentage() -> None:
    assert ktc(0.6, 0.8) == pytest.approx(75)
    with pytest.raises(DataError, match="Dice above 0"):
        ktc(0.6, 0)


def test_summary_by_hand() -> None:
    """Mean (1 + 2 + 6)/3 = 3, variance (4 + 1 + 9)/3 = 14/3; NaN counts nowhere."""
    assert summary([1, 2, math.nan, 6]) == (3, pytest.approx(math.sqrt(14 / 3)), 3)
    assert summary([0.5]) == (0.5, 0, 1)
    nothing = summary([math.nan])
    assert math.isnan(nothing.mean)
    assert math.isnan(nothing.std)
    assert nothing.n == 0


def test_bootstrap_agrees_with_scipy() -> None:
    """Percentiles of 10,000 resamples vary by about 1 % of the interval's width from seed to seed."""
    rng = np.random.default_rng(1)
    a, b = rng.beta(6, 2, 80), rng.beta(5, 2, 80)
    ours = paired_bootstrap(a, b, seed=3)
    scipys = stats.bootstrap((a - b,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(4))
    low, high = scipys.confidence_interval
    assert ours.mean == pytest.approx(np.mean(a - b))
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_bootstrap_covers_the_truth() -> None:
    """Of 200 intervals 190 should hold the true difference 0.1; 5 standard errors are 5·√(200·0.95·0.05) = 15."""
    rng = np.random.default_rng(5)
    intervals = [paired_bootstrap(rng.normal(0.1, 1, 60), np.zeros(60), samples=400) for _ in range(200)]
    assert sum(low <= 0.1 <= high for _, low, high in intervals) >= 175


def test_bootstrap_pairs_pictures() -> None:
    """A constant difference has no spread however much the pictures differ."""
    values = np.random.default_rng(2).random(30)
    assert paired_bootstrap(values + 0.25, values) == pytest.approx((0.25, 0.25, 0.25))


def test_bootstrap_is_decided_by_the_seed() -> None:
    values = np.random.default_rng(2).random(30)
    first = paired_bootstrap(values, values[::-1], seed=1)
    assert first == paired_bootstrap(values, values[::-1], seed=1)
    assert first != paired_bootstrap(values, values[::-1], seed=2)


def test_bootstrap_works_in_blocks() -> None:
    """3,000 pictures × 1,500 resamples at once: 36 MB of indices and 36 MB of values. A block has 8 MB of each."""
    values = np.random.default_rng(2).random(3000)
    tracemalloc.start()
    paired_bootstrap(values, np.zeros(3000), samples=1500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize(("a", "b"), [([1.0, 2.0], [1.0]), ([], []), ([[1.0]], [[1.0]])])
def test_bootstrap_refuses_what_is_not_paired(a: list[float], b: list[float]) -> None:
    with pytest.raises(DataError, match="same pictures"):
        paired_bootstrap(a, b)
