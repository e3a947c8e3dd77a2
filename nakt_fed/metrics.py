"""Overlap of masks, its summary over pictures, and whether a difference between two models is more than chance."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nakt_fed.errors import DataError

Masks = NDArray[np.bool_]
BLOCK = 1 << 20  # bootstrap draws held at a time


class Summary(NamedTuple):
    """Mean and spread over the `n` pictures that have a value."""

    mean: float
    std: float
    n: int


class Difference(NamedTuple):
    """Mean of a − b over pictures, with its 95 % interval."""

    mean: float
    low: float
    high: float


def dice(prediction: Masks, truth: Masks) -> NDArray[np.float64]:
    """Dice coefficient 2·|P∩T| / (|P|+|T|) per picture. Both masks empty: 1. One empty: 0 (DESIGN §3).

    Args:
        prediction: (N, H, W) bool.
        truth: (N, H, W) bool.

    Returns:
        (N,) float64 in 0..1.

    Raises:
        DataError: the arrays are not bool or differ in shape.
    """
    return _overlap(prediction, truth, lambda both, either: 2 * both / (both + either))


def iou(prediction: Masks, truth: Masks) -> NDArray[np.float64]:
    """Intersection over union |P∩T| / |P∪T| per picture; arguments, empty masks and errors as for `dice`."""
    return _overlap(prediction, truth, lambda both, either: both / either)


def _overlap(prediction: Masks, truth: Masks, ratio: Callable[[Any, Any], float]) -> NDArray[np.float64]:
    """One picture at a time: memory stays that of a picture. `ratio` gets the pixels in both and in at least one."""
    check_masks(prediction, truth)
    values = np.ones(len(prediction))
    for i, (p, t) in enumerate(zip(prediction, truth, strict=True)):
        if either := np.count_nonzero(p | t):
            values[i] = ratio(np.count_nonzero(p & t), either)
    return values


def check_masks(prediction: Masks, truth: Masks) -> None:
    """Raise DataError unless both are bool (N, H, W) of one shape."""
    if prediction.dtype != bool or truth.dtype != bool:
        raise DataError(
            f"masks to compare must be bool, got {prediction.dtype} and {truth.dtype}; "
            "threshold them first, as in mask > 127"
        )
    if prediction.shape != truth.shape or prediction.ndim != 3:
        raise DataError(
            f"prediction and truth must have one shape (N, H, W), got {prediction.shape} and {truth.shape}; "
            "resize the prediction to the truth and add the first axis to a single mask"
        )


def ktc(student: float, teacher: float) -> float:
    """Knowledge transfer capability of a transferal set in %: 100 · student Dice / teacher Dice (DESIGN §3).

    Raises:
        DataError: the teacher's Dice is 0, so it had nothing to transfer.
    """
    if teacher == 0:
        raise DataError("KTC needs a teacher with Dice above 0, got 0; train the teacher or take another test set")
    return 100 * student / teacher


def summary(per_image: Iterable[float]) -> Summary:
    """Mean and population standard deviation (divided by n); NaN, a distance that does not exist, is left out.

    The test set itself is described, not what it was drawn from, so a single picture has std 0. Without any value, mean
    and std are NaN.
    """
    values = np.asarray(list(per_image), dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return Summary(float("nan"), float("nan"), 0)
    return Summary(float(values.mean()), float(values.std()), len(values))


def paired_bootstrap(a: ArrayLike, b: ArrayLike, seed: int = 0, samples: int = 10_000) -> Difference:
    """Percentile bootstrap over pictures of the mean difference a − b (Efron & Tibshirani 1993, §13.3).

    Args:
        a: (n,) a value per picture, such as the student's Dice.
        b: (n,) the same pictures in the same order, such as a teacher's Dice.
        seed: of the resampling.
        samples: how many resamples of n pictures.

    Raises:
        DataError: `a` and `b` are not of the same pictures, or there are none.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise DataError(
            f"a paired bootstrap needs two lists of the same pictures, got shapes {first.shape} and {second.shape}; "
            "give one value per picture for both, in the same order"
        )
    differences = first - second
    low, high = np.percentile(resampled_means(differences, seed, samples), [2.5, 97.5])
    return Difference(float(differences.mean()), float(low), float(high))


def resampled_means(values: NDArray[np.float64], seed: int, samples: int) -> NDArray[np.float64]:
    """Means over the first axis of `samples` resamples of it: (n,) -> (samples,), (n, m) -> (samples, m)."""
    rng = np.random.default_rng(seed)
    means = np.empty((samples, *values.shape[1:]))
    rows = max(1, BLOCK // values.size)
    for start in range(0, samples, rows):
        block = means[start : start + rows]
        block[:] = values[rng.integers(len(values), size=(len(block), len(values)))].mean(axis=1)
    return means
