"""One weight per picture and site: how well its mask agrees with the others'."""

import numpy as np

from nakt_fed.weightings.patterns import dice_with, patterns_of
from nakt_fed.weightings.scheme import Answers, AtLeastZero, weighting


@weighting(needs="site_masks")
def agreement(x: Answers, *, gamma: AtLeastZero = 1.0) -> dict[str, np.ndarray]:
    """The mean Dice with each other site's mask, to the power of γ; the answers themselves stay soft. One site: its mask.

    The numerator of Williams' index of an observer's agreement with the others (Chalana and Kim, "A methodology for evaluation of
    boundary detection algorithms on medical images", IEEE TMI 16(5), 1997).
    """
    pictures = range(len(next(iter(x.masks.values()))))
    rows = np.array([_with_others([masks[i : i + 1] for masks in x.masks.values()]) for i in pictures])
    return dict(zip(x.masks, (rows**gamma).T, strict=True))


def _with_others(masks: list[np.ndarray]) -> np.ndarray:
    found = patterns_of(masks)
    pairs = np.array([dice_with(found.votes, found.counts, votes) for votes in found.votes.T])
    return (pairs.sum(axis=0) - 1) / (len(masks) - 1) if len(masks) > 1 else np.ones(1)
