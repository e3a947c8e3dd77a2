"""Votes of the sites per pixel."""

import numpy as np

from nakt_fed.weightings.scheme import Masks, Sums, weighting


def _vote(masks: Masks) -> tuple[np.ndarray, np.ndarray]:
    return (masks >> 7).astype(np.uint16), masks.astype(np.uint16)


@weighting(needs="sums", part=_vote)
def majority(x: Sums) -> Masks:
    """0 or 255 as most sites say at one half (q ≥ 128); the mean decides a tie. One site: its mask at one half.

    Lam and Suen, "Application of majority voting to pattern recognition", IEEE Trans. SMC-A 27(5), 1997.
    """
    votes, levels = x.parts
    most = 2 * votes > x.sites
    tied = (2 * votes == x.sites) & (2 * levels.astype(np.uint32) > 255 * x.sites)
    return (most | tied).astype(np.uint8) * np.uint8(255)
