"""Consensus focus by Shapley value: who makes the sites agree with confidence (after KD3A)."""

import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nakt_fed.weightings.scheme import Masks, Times, Whole, weighting
from nakt_fed.weightings.tables import looked_up

MOST_EXACT = 8
"""Sites for which all coalitions are valued; of more, random orders are drawn."""
Real = NDArray[np.float64]
_LEVEL = np.arange(256)
_SURE = np.maximum(_LEVEL, 255 - _LEVEL)


@weighting(needs="site_masks", over="run")
def shapley(run: Whole, *, gate: Annotated[float, Field(ge=0.5, le=1)] = 0.8, orders: Times = 64) -> dict[str, float]:
    """Each site's Shapley value in the game of consensus quality; below 0 it counts nothing.

    Knowledge Vote and Consensus Focus of Feng et al., "KD3A: Unsupervised Multi-Source Decentralized Domain Adaptation via
    Knowledge Distillation" (ICML 2021, arXiv 2011.09757): of a coalition's answers those with a confidence of at least `gate`
    vote; the quality of its consensus is the sum over the pixels of (supporters of the winning class) × (their mean
    confidence); without a winner it is 0. Other than there, a site's contribution is averaged over all orders in which it can
    join (not only as the last), and only pixels that a site confidently calls a target count: the background, on which all
    agree, would make all alike.

    Args:
        gate: the least confidence max(p, 1 − p) that votes.
        orders: how many random orders are drawn for more than 8 sites.
    """
    assert run.stored is not None
    game = Game(len(run.sites), gate)
    for chunk in run.stored.chunks():
        for row in range(len(next(iter(chunk.values())))):
            game.add([chunk[site][row] for site in run.sites])
    exact = len(run.sites) <= MOST_EXACT
    values = np.maximum(game.exact() if exact else game.sampled(orders, run.seed), 0)
    return dict(zip(run.sites, values.tolist() if values.any() else [1.0] * len(values), strict=True))


class Game:
    """Patterns of votes (per site: 0 unsure, 1 target, 2 background) with the confidence of every site summed over their pixels.

    A coalition's quality follows from these sums, so that memory does not grow with the pictures.
    """

    def __init__(self, sites: int, gate: float) -> None:
        self.sites = sites
        state = np.where(gate * 255 > _SURE, 0, np.where(_LEVEL > 127, 1, 2))
        self.tables = [(state * 3**k).astype(np.int64) for k in range(sites)]
        self.sure = _SURE.astype(np.uint8)
        self.codes = np.arange(3**sites) if sites <= MOST_EXACT else np.empty(0, np.int64)
        self.sums: Real = np.zeros((len(self.codes), sites))

    def add(self, masks: list[Masks]) -> None:
        """One picture, (H, W) uint8 per site."""
        codes = sum(looked_up(table, mask) for table, mask in zip(self.tables, masks, strict=True)).ravel()  # type: ignore[union-attr]
        if self.sites > MOST_EXACT:
            found, codes = np.unique(codes, return_inverse=True)
            self._make_room(found)
            codes = np.searchsorted(self.codes, found)[codes]
        for k, mask in enumerate(masks):
            sure = looked_up(self.sure, mask).ravel()
            self.sums[:, k] += np.bincount(codes, weights=sure, minlength=len(self.codes))

    def _make_room(self, found: NDArray[np.int64]) -> None:
        codes = np.union1d(self.codes, found)
        sums = np.zeros((len(codes), self.sites))
        sums[np.searchsorted(codes, self.codes)] = self.sums
        self.codes, self.sums = codes, sums

    def quality(self, coalitions: NDArray[np.bool_]) -> Real:
        """(C, K) -> (C,), in gray levels."""
        states = self.codes[:, None] // 3 ** np.arange(self.sites) % 3
        seen = (states == 1).any(axis=1)
        states, sums = states[seen], self.sums[seen]
        inside = coalitions.astype(float)
        votes = [inside @ (states == each).T for each in (1, 2)]
        support = [inside @ (sums * (states == each)).T for each in (1, 2)]
        won = np.where(votes[0] > votes[1], support[0], np.where(votes[1] > votes[0], support[1], 0))
        return won.sum(axis=1)

    def exact(self) -> Real:
        """Over all coalitions S without k: |S|! (K − |S| − 1)! / K! of what k adds to S."""
        k = self.sites
        everyone = np.arange(2**k)[:, None] >> np.arange(k) & 1 == 1
        quality, size = self.quality(everyone), everyone.sum(axis=1)
        share = np.array([math.factorial(s) * math.factorial(k - s - 1) / math.factorial(k) for s in range(k)])
        without = [np.flatnonzero(~everyone[:, site]) for site in range(k)]
        return np.array(
            [share[size[rest]] @ (quality[rest + 2**site] - quality[rest]) for site, rest in enumerate(without)]
        )

    def sampled(self, orders: int, seed: int) -> Real:
        """The mean over random orders of what a site adds to those before it."""
        rng, total = np.random.default_rng(seed), np.zeros(self.sites)
        for _ in range(orders):
            order = rng.permutation(self.sites)
            steps = np.zeros((self.sites + 1, self.sites), bool)
            for place, site in enumerate(order):
                steps[place + 1 :, site] = True
            total[order] += np.diff(self.quality(steps))
        return total / orders
