"""Weights by agreement with a majority of the other sites, over a run (`nakt_fed.weightings.trust`) and on each picture."""

from collections.abc import Sequence

import numpy as np

from nakt_fed.filtering import PAPER_SIZE
from nakt_fed.weightings.scheme import Answers, Masks, Whole, weighting
from nakt_fed.weightings.trust import LEAST, Real, covariance, majority, trust_of

POWER = 2
"""Of the agreement on a single picture: who agrees half as well counts a quarter."""
TARGET = 256 / PAPER_SIZE**2
"""Share of a picture that the filter takes for a target (α of the paper): less than that decides nothing."""


def heard(masks: Sequence[Masks]) -> Real:
    """Who is heard on one picture: (H, W) uint8 per site -> (K,), the squared agreement with a majority as a share of the best
    one, from 0 (outvoted) to 1. Fewer than three sites: all.

    Agreement is Dice of the soft masks without their mean, 2·cov / (var + var): a blank mask has none with a lesion. Where
    nobody sees more than a few pixels, all agree.
    """
    if len(masks) < 3:
        return np.ones(len(masks))
    found, little = covariance(masks), TARGET * 255**2
    spread = np.diag(found)
    agreement = majority((2 * found + little) / (spread[:, None] + spread + little))
    if np.median(agreement) < LEAST:
        return np.ones(len(masks))
    return np.asarray(np.clip(agreement / agreement.max(), 0, 1) ** POWER)


def trusted(run: Whole) -> dict[str, float]:
    """What every site counts over the run, 0 (quarantined) to 1."""
    assert run.stored is not None
    return trust_of(run.sites, run.stored.chunks()).weights


@weighting(needs="site_masks", first=trusted)
def robust(x: Answers) -> dict[str, Real]:
    """Sites that no majority agrees with count nothing over the run; on each picture the others count the more, the better a
    majority agrees with them there.

    The premise and the thresholds of a run stand in `nakt_fed.weightings.trust`; what it does under planted faults in docs/weighting.md.
    """
    names = [site for site in x.masks if x.statistic[site] > 0]
    pictures = range(len(x.masks[names[0]]))
    rows = np.array([heard([x.masks[site][i] for site in names]) for i in pictures]).T
    weights = {site: x.statistic[site] * row for site, row in zip(names, rows, strict=True)}
    return {site: weights.get(site, np.zeros(len(pictures))) for site in x.masks}
