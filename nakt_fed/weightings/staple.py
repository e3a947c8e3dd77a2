"""STAPLE (Warfield, Zou and Wells, "Simultaneous truth and performance level estimation", IEEE TMI 23(7), 2004)."""

import numpy as np
from numpy.typing import NDArray

from nakt_fed.weightings.patterns import Patterns, patterns_of
from nakt_fed.weightings.scheme import Answers, Masks, Times, weighting

Real = NDArray[np.float64]
CHANGE = 1e-7  # of a sensitivity or specificity, below which the estimate stands: ITK's


@weighting(needs="site_masks")
def staple(x: Answers, *, iterations: Times = 1000) -> Masks:
    """The posterior of the hidden true mask, by EM on each picture's binary masks (q ≥ 128); one site: its mask at one half.

    The prior is the mean of all votes, and the posterior begins with the share of votes per pixel, as in ITK's
    STAPLEImageFilter. Without a spatial prior a pixel's posterior depends on its pattern of votes alone, so EM runs on patterns.
    """
    pictures = range(len(next(iter(x.masks.values()))))
    # Sorted by content: where two truths are equally likely, the last bit of a sum, and so the order of the sites, would decide
    ordered = (sorted((masks[i : i + 1] for masks in x.masks.values()), key=np.ndarray.tobytes) for i in pictures)
    found = map(patterns_of, ordered)
    return np.concatenate([each.painted(posterior(each, iterations)) for each in found])


def posterior(x: Patterns, iterations: int) -> Real:
    """(P,) probability of a target, per pattern."""
    yes = x.votes.astype(np.float64)
    no, pixels = 1 - yes, x.counts.astype(np.float64)
    truth: Real = yes.mean(axis=1)
    prior = float(pixels @ truth / pixels.sum())
    before: tuple[Real, Real] | None = None
    for _ in range(iterations):
        rates = _rate(yes, pixels * truth), _rate(no, pixels * (1 - truth))
        truth = _expected(yes, no, rates, prior)
        if before and max(np.abs(a - b).max() for a, b in zip(rates, before, strict=True)) <= CHANGE:
            break
        before = rates
    return truth


def _rate(right: Real, weight: Real) -> Real:
    """The M-step, (K,): sensitivities or specificities; 1 where there is nothing to be wrong about."""
    total = weight.sum()
    return weight @ right / total if total else np.ones(right.shape[1])


def _expected(yes: Real, no: Real, rates: tuple[Real, Real], prior: float) -> Real:
    """The E-step: Bayes' rule per pattern, the sites being independent. |no − p| is p for a vote and 1 − p without one."""
    target = prior * np.abs(no - rates[0]).prod(axis=1)
    rest = (1 - prior) * np.abs(yes - rates[1]).prod(axis=1)
    total = target + rest
    return target / total if total.all() else np.divide(target, total, out=yes.mean(axis=1), where=total > 0)
