"""STAPLE (Warfield, Zou and Wells, "Simultaneous truth and performance level estimation", IEEE TMI 23(7), 2004)."""

import numpy as np
from numpy.typing import NDArray

from nakt_fed.weightings.patterns import Patterns, patterns_of
from nakt_fed.weightings.scheme import Answers, Masks, weighting

Real = NDArray[np.float64]
CHANGE = 1e-7  # of a sensitivity or specificity, below which the estimate stands: ITK's


@weighting(needs="site_masks")
def staple(x: Answers, *, iterations: int = 1000) -> Masks:
    """The posterior of the hidden true mask, by EM on each picture's binary masks (q ≥ 128); one site: its mask at one half.

    The prior is the mean of all votes, and the posterior begins with the share of votes per pixel, as in ITK's
    STAPLEImageFilter. Without a spatial prior a pixel's posterior depends on its pattern of votes alone, so EM runs on patterns.
    """
    pictures = range(len(next(iter(x.masks.values()))))
    found = (patterns_of(masks[i : i + 1] for masks in x.masks.values()) for i in pictures)
    return np.concatenate([each.painted(posterior(each, iterations)) for each in found])


def posterior(x: Patterns, iterations: int) -> Real:
    """(P,) probability of a target, per pattern."""
    votes, pixels = x.votes.astype(np.float64), x.counts.astype(np.float64)
    truth: Real = votes.mean(axis=1)
    prior = float(pixels @ truth / pixels.sum())
    before = np.full((2, votes.shape[1]), 0.99999)
    for _ in range(iterations):
        rates = _rates(votes, pixels, truth)
        truth = _expected(votes, rates, prior)
        if (np.abs(rates - before) <= CHANGE).all():
            break
        before = rates
    return truth


def _rates(votes: Real, pixels: Real, truth: Real) -> Real:
    """The M-step. (2, K): sensitivities and specificities; 1 where there is nothing to be wrong about."""
    weight = pixels * truth, pixels * (1 - truth)
    right = weight[0] @ votes, weight[1] @ (1 - votes)
    return np.array([r / w.sum() if w.sum() else np.ones_like(r) for r, w in zip(right, weight, strict=True)])


def _expected(votes: Real, rates: Real, prior: float) -> Real:
    """The E-step: Bayes' rule per pattern, the sites being independent."""
    target = prior * np.prod(np.where(votes > 0, rates[0], 1 - rates[0]), axis=1)
    rest = (1 - prior) * np.prod(np.where(votes > 0, 1 - rates[1], rates[1]), axis=1)
    total = target + rest
    return np.where(total > 0, target / np.where(total > 0, total, 1), votes.mean(axis=1))
