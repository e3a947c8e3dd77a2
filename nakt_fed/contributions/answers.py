"""How the sites answer: their agreement with one another, their calibration, and where on a picture they differ."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nakt_fed.metrics import dice

Masks = NDArray[np.uint8]
Real = NDArray[np.float64]
BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Of the pixels to which a site gives a probability in a tenth of 0..1: how many, their mean, the share that is a target.

    `error` is the expected calibration error: the mean over the pixels of |probability given − share that is a target|, by
    tenths (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
    """

    pixels: list[int]
    given: list[float | None]
    target: list[float | None]
    error: float


class Calibrating:
    """Sums over the pictures; `result` at any time."""

    def __init__(self) -> None:
        self.levels = np.zeros((2, 256), np.int64)

    def add(self, masks: Masks, truth: Masks) -> None:
        """Soft masks and ground truth (0 or 255), both (n, H, W) uint8."""
        for row, right in enumerate((truth <= 127, truth > 127)):
            self.levels[row] += np.bincount(masks[right], minlength=256)

    def result(self) -> Calibration:
        """Raises nothing: a tenth without pixels has no mean (None)."""
        tenth = np.minimum(np.arange(256) * BINS // 255, BINS - 1)
        count = self.levels.sum(axis=0)
        pixels, hits, given = (
            np.bincount(tenth, weights=values, minlength=BINS)
            for values in (count, self.levels[1], count * np.arange(256) / 255)
        )
        error = float(np.abs(given - hits).sum() / max(1, pixels.sum()))
        return Calibration(pixels.astype(int).tolist(), _means(given, pixels), _means(hits, pixels), error)


def _means(sums: NDArray[Any], counts: NDArray[Any]) -> list[float | None]:
    return [float(total / n) if n else None for total, n in zip(sums, counts, strict=True)]


def agreement(sites: Iterable[str], chunks: Iterable[Mapping[str, Masks]]) -> Real:
    """(K, K): mean Dice over the pictures between the masks of two sites at one half; both empty: 1."""
    names = list(sites)
    total, pictures = np.zeros((len(names), len(names))), 0
    for chunk in chunks:
        seen = [chunk[name] > 127 for name in names]
        pictures += len(seen[0])
        for i, one in enumerate(seen):
            for j in range(i, len(seen)):
                total[i, j] += dice(one, seen[j]).sum()
    whole = np.triu(total, 1)
    return (whole + whole.T + np.diag(np.diag(total))) / max(1, pictures)


class Disagreement:
    """Where on the picture the sites differ: the standard deviation of their probabilities at each pixel."""

    def __init__(self) -> None:
        self.total: Real = np.zeros(())
        self.pictures = 0

    def add(self, masks: Iterable[Masks]) -> Real:
        """Soft masks of some pictures, (n, H, W) uint8 per site -> (n, H, W) deviations in 0..0.5."""
        spread: Real = np.std([np.asarray(mask, np.float32) / 255 for mask in masks], axis=0)
        self.total = self.total + spread.sum(axis=0)
        self.pictures += len(spread)
        return spread

    @property
    def mean(self) -> Real:
        """(H, W) over all pictures."""
        return np.asarray(self.total / max(1, self.pictures))
