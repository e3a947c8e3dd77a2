"""Weights per picture by iteration: fuse, see how far each site is from the result, weigh again."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nakt_fed.weightings.patterns import Patterns, dice_with, patterns_of
from nakt_fed.weightings.scheme import Answers, AtLeastZero, Times, weighting

Real = NDArray[np.float64]
NEAR = 1e-9  # sums of weights and Dice that differ by less are equal


def _per_picture(x: Answers, weigh: Callable[[Patterns], Real]) -> dict[str, Real]:
    pictures = range(len(next(iter(x.masks.values()))))
    rows = [weigh(patterns_of(masks[i : i + 1] for masks in x.masks.values())) for i in pictures]
    return dict(zip(x.masks, np.array(rows).T, strict=True))


@weighting(needs="site_masks")
def simple(x: Answers, *, alpha: AtLeastZero = 1.0) -> dict[str, Real]:
    """Selective and iterative: sites whose Dice with the weighted vote is α deviations below the mean are dropped, picture by picture.

    After SIMPLE (Langerak et al., "Label fusion in atlas-based segmentation using a selective and iterative method for performance level
    estimation", IEEE TMI 29(12), 2010). Other than there, more than half of the sites always stay (a few sites would be
    dropped down to two), and the result is the mean of the soft answers, weighted with the last Dice.
    """
    return _per_picture(x, lambda found: _selected(found, alpha))


def _selected(x: Patterns, alpha: float) -> Real:
    sites = x.votes.shape[1]
    weights, stays = np.ones(sites), np.ones(sites, bool)
    fused = None
    for _ in range(50):
        before, fused = fused, _vote(x, weights * stays)
        weights = dice_with(x.votes, x.counts, fused)
        kept = _best(weights, stays, alpha, least=sites // 2 + 1)
        if (kept == stays).all() and before is not None and (fused == before).all():
            break
        stays = kept
    chosen = weights * stays
    return chosen if chosen.any() else stays.astype(float)


def _best(dice: Real, stays: NDArray[np.bool_], alpha: float, least: int) -> NDArray[np.bool_]:
    """Without those below the threshold, the worst first, while `least` remain; equals go together or stay together."""
    limit = dice[stays].mean() - alpha * dice[stays].std()
    floor = np.sort(dice[stays])[-min(least, int(stays.sum()))]
    return stays & (dice >= min(limit, floor) - NEAR)


def _vote(x: Patterns, weights: Real) -> NDArray[np.bool_]:
    """The weighted majority per pattern; a tie is no target."""
    return x.votes @ weights > weights.sum() / 2 + NEAR


@weighting(needs="site_masks")
def rasa(x: Answers, *, iterations: Times = 10) -> dict[str, Real]:
    """Sites are weighted with ln(1 + 1 / (1 − IoU)) with the weighted vote, again and again, picture by picture.

    Reliability-aware aggregation (Li and Fukumoto, "A Dataset of Crowdsourced Word Sequences", AnnoNLP 2019, D19-5904) for masks, as in
    crowd-kit's SegmentationRASA (a tie is a target there). The result is the mean of the soft answers with the last weights.
    """
    return _per_picture(x, lambda found: _reliable(found, iterations))


def _reliable(x: Patterns, iterations: int) -> Real:
    weights = np.full(x.votes.shape[1], 1 / x.votes.shape[1])
    last: Real | None = None
    for _ in range(iterations):
        score = x.votes @ weights
        weights = _by_distance(x, score >= 0.5 - NEAR)
        if last is not None and x.counts @ (score - last) ** 2 <= 1e-5 * (x.counts @ score**2):
            break
        last = score
    return weights


def _by_distance(x: Patterns, fused: NDArray[np.bool_]) -> Real:
    """crowd-kit's weights; two empty masks are equal (there: not a number)."""
    both = x.counts @ (x.votes & fused[:, None])
    either = x.counts @ (x.votes | fused[:, None])
    distance = np.where(either > 0, 1 - both / np.maximum(either, 1), 0.0)
    weights = np.log(1 / (distance + 1e-5) + 1)
    return weights / weights.sum()
