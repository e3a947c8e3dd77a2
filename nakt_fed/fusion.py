"""y = Σ w_k · T_k(x) in fixed point (Algorithm 1, line 2; DESIGN §3): the same bit for bit in any order, on any machine."""

import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from nakt_fed.errors import StudyError

ONE = 65536
"""Weights are integers that sum to this; 255 · 65536 stays far below 2^32, so a sum never overflows."""


def fixed_point(weights: Mapping[str, float]) -> dict[str, int]:
    """Integers that sum to exactly 65536, in proportion to the weights (largest remainders get the rest; ties by name).

    Raises:
        StudyError: a weight is negative or not finite, or all are zero.
    """
    for site, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise StudyError(f"the weight of site {site!r} is {weight}; expected a finite number of at least 0")
    if not any(weights.values()):
        raise StudyError(
            f"the weights of the sites {sorted(weights)} are all zero; give at least one a positive weight"
        )
    total = sum(
        map(Fraction, weights.values())
    )  # fractions: a float sum overflows, and rounds near-equal weights together
    exact = {site: Fraction(weight) / total * ONE for site, weight in weights.items()}
    whole = {site: math.floor(value) for site, value in exact.items()}
    by_remainder = sorted(exact, key=lambda site: (whole[site] - exact[site], site))
    for site in by_remainder[: ONE - sum(whole.values())]:
        whole[site] += 1
    return whole


class WeightedSum:
    """(Σ w·q, Σ w): merging is associative and commutative, an empty sum is neutral, and it is all that secure aggregation delivers.

    Memory is one uint32 per pixel, however many sites are added.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.products = np.zeros(shape, dtype=np.uint32)
        self.weight = 0

    def add(self, soft: NDArray[np.uint8], weight: int) -> "WeightedSum":
        """Add one site's soft masks (n, H, W) uint8 with its fixed-point weight; all weights together are 65536 at the most."""
        assert soft.shape == self.products.shape
        assert 0 <= weight <= ONE - self.weight
        if self.weight == 0:  # all zeros until now: no need to read them
            np.multiply(soft, np.uint32(weight), out=self.products)
        else:
            for total, mask in zip(self.products, soft, strict=True):  # one picture at a time stays in the cache
                total += np.multiply(mask, np.uint32(weight), dtype=np.uint32)
        self.weight += weight
        return self

    def merge(self, other: "WeightedSum") -> "WeightedSum":
        """The sum over the sites of both."""
        merged = WeightedSum(self.products.shape)
        merged.products = self.products + other.products
        merged.weight = self.weight + other.weight
        return merged

    def result(self) -> NDArray[np.uint8]:
        """The pseudo masks (n, H, W) uint8, probability × 255, rounded half up."""
        assert self.weight == ONE
        rounded = np.empty(self.products.shape, np.uint8)
        for total, pseudo in zip(self.products, rounded, strict=True):
            pseudo[:] = (total + np.uint32(ONE // 2)) >> np.uint32(16)
        return rounded


def fuse(soft: Mapping[str, NDArray[np.uint8]], weights: Mapping[str, int]) -> NDArray[np.uint8]:
    """Line 2 of Algorithm 1 for a chunk: soft masks (n, H, W) per site, fixed-point weights -> pseudo masks (n, H, W).

    The sites are taken one after the other: a mapping that reads when asked never holds more than one site's masks.
    """
    total: WeightedSum | None = None
    for site, masks in soft.items():
        total = (total or WeightedSum(masks.shape)).add(masks, weights[site])
    assert total is not None
    return total.result()


def sharpen(masks: NDArray[np.uint8], temperature: float) -> NDArray[np.uint8]:
    """sigmoid(logit(p) / temperature) on soft masks of any shape, probability × 255; 0, 255 and what lies at one half stay.

    A student that learns soft masks y by the Dice loss answers 1 where y > D/2, D being the Dice that it reaches (Lipton,
    Elkan and Narayanaswamy, "Thresholding Classifiers to Maximize F1 Score", arXiv 1402.1892): its masks come out larger
    than those of the teachers at one half. A temperature below 1 moves that threshold towards one half.
    """
    if temperature == 1:
        return masks
    p = np.arange(256) / 255
    raised, rest = p ** (1 / temperature), (1 - p) ** (1 / temperature)
    table: NDArray[np.uint8] = np.rint(255 * raised / (raised + rest)).astype(np.uint8)
    return table[masks]
