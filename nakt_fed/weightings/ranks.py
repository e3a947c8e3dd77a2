"""The sites' answers in order, pixel by pixel: what lies in the middle."""

import math
from collections.abc import Iterable
from typing import Annotated

import numpy as np
from pydantic import Field

from nakt_fed.weightings.scheme import Answers, Masks, weighting


def in_order(masks: Iterable[Masks]) -> list[Masks]:
    """The same values, smallest first at every pixel, by comparing neighbours: a few sites need no general sorting."""
    rows = list(masks)
    for last in range(1, len(rows)):
        for i in range(last, 0, -1):
            rows[i - 1], rows[i] = np.minimum(rows[i - 1], rows[i]), np.maximum(rows[i - 1], rows[i])
    return rows


def _mean(rows: list[Masks]) -> Masks:
    """Rounded half up."""
    total = rows[0].astype(np.uint16)
    for row in rows[1:]:
        total = total + row
    return ((total.astype(np.uint32) * 2 + len(rows)) // (2 * len(rows))).astype(np.uint8)


@weighting(needs="site_masks")
def median(x: Answers) -> Masks:
    """The coordinate-wise median (Yin et al., "Byzantine-Robust Distributed Learning", arXiv 1803.01498, definition 1).

    Of an even number of sites the mean of the middle two, rounded half up.
    """
    rows = in_order(x.masks.values())
    return _mean(rows[(len(rows) - 1) // 2 : len(rows) // 2 + 1])


@weighting(needs="site_masks")
def trimmed_mean(x: Answers, *, trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.2) -> Masks:
    """The mean without the largest and the smallest share `trim` of the answers (arXiv 1803.01498, definition 2), rounded half up.

    At least one answer, or of an even number two, stays: then it is the median.
    """
    rows = in_order(x.masks.values())
    cut = min(math.floor(trim * len(rows) + 1e-9), (len(rows) - 1) // 2)
    return _mean(rows[cut : len(rows) - cut])
