"""Pools of opinions other than the mean: the mean of the logits, and the mean made sharper."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nakt_fed.weightings.scheme import AboveZero, Masks, Sums, weighting
from nakt_fed.weightings.tables import LOGITS, looked_up

ONE = 2**20  # of a logit in fixed point: the largest is below 7, so that 256 sites fit into 32 bits
STEP = 2**10  # of the table back to levels: a thousandth of a logit, a sixteenth of a level at the most
_FIXED = np.rint(LOGITS * ONE).astype(np.int32)
_OFFSET = -int(_FIXED[0]) + STEP // 2
_BACK = np.array(
    [round(255 / (1 + math.exp(-z / ONE))) for z in range(int(_FIXED[0]), int(_FIXED[255]) + STEP, STEP)], np.uint8
)


@weighting(needs="sums", soft=True, part=lambda masks: (looked_up(_FIXED, masks),))
def geometric_mean(x: Sums) -> Masks:
    """The logarithmic opinion pool: p ∝ Π p_k^(1/K), that is the mean of the logits.

    Genest and Zidek, "Combining probability distributions", Statistical Science 1(1), 1986. An answer of 0 or
    255 counts as a quarter of a gray level away from it, so that no single site decides alone.
    """
    (logits,) = x.parts
    place = (logits // x.sites + _OFFSET) // STEP
    return _BACK[np.clip(place, 0, len(_BACK) - 1)]


@weighting(needs="sums", soft=True, part=lambda masks: (masks.astype(np.uint16),))
def era(x: Sums, *, temperature: AboveZero = 0.1) -> Masks:
    """Entropy reduction averaging: softmax of the mean probabilities over a temperature (DS-FL: Itahara et al., arXiv 2008.06180).

    For target and background it is sigmoid((2p − 1) / T). One site: its mask sharpened like this.
    """
    return _sharper(x.sites, temperature)[x.parts[0]]


@lru_cache(maxsize=8)
def _sharper(sites: int, temperature: float) -> NDArray[np.uint8]:
    """For every sum of the sites' levels."""
    mean = np.arange(255 * sites + 1) / (255 * sites)
    power = np.clip((1 - 2 * mean) / temperature, -700, 700)
    return np.rint(255 / (1 + np.exp(power))).astype(np.uint8)
