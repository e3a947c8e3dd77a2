"""Agreement of each site with a majority of the others over a run, and the evidence against a site.

The premise is that fewer than half of the sites are bad (at most ⌊(K−1)/2⌋ of K). Then every honest site has at least
m = ⌊K/2⌋ honest others, and a bad one has at most m − 1 fellows: the m-th best agreement with another site is always one
with an honest site. Sites that answer alike cannot confirm each other, as they can under a rule that looks at the nearest
others only (Krum: Blanchard et al., "Machine Learning with Adversaries", NeurIPS 2017, which needs K > 2f + 2).
Agreement over a run is the correlation of the soft masks, pixel by pixel within the pictures: blank, all-positive and drawn
masks have none, inverted ones a negative one, and a cautious site is not taken for a bad one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nakt_fed.weightings.scheme import Masks

Real = NDArray[np.float64]
QUARANTINE, DOUBT = 0.5, 0.75
"""Of the usual agreement: below the first a site counts nothing, from the second on fully, in between in proportion."""
SIDE = 192
"""Rows and columns that are enough to tell who agrees: soft masks are smooth."""
LEAST = 0.1
"""Where the usual agreement is below this, the sites have nothing in common that one of them could lack."""


class Agreement:
    """Σ over pictures of the covariances between K sites' masks: memory does not grow with the pictures."""

    def __init__(self, sites: int) -> None:
        self.covariance: Real = np.zeros((sites, sites))
        self.level: Real = np.zeros(sites)
        self.pictures = 0

    def add(self, masks: Sequence[Masks]) -> "Agreement":
        """Add one picture: (H, W) uint8 per site, always in the same order."""
        self.covariance += covariance(masks)
        self.level += [mask.mean() / 255 for mask in masks]
        self.pictures += 1
        return self

    @property
    def correlation(self) -> Real:
        """(K, K) in −1..1; of a site whose masks never vary 0 with everyone."""
        spread = np.sqrt(np.diag(self.covariance))
        both = spread[:, None] * spread
        return np.divide(self.covariance, both, out=np.zeros_like(both), where=both > 0)


def covariance(masks: Sequence[Masks]) -> Real:
    """(K, K) over the pixels of one picture, in gray levels squared: Σ pq / n − p̄·q̄. Of large pictures over every step-th
    pixel in both directions."""
    step = max(1, masks[0].shape[0] // SIDE)
    flat = np.stack([mask[::step, ::step].ravel() for mask in masks]).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return (flat @ flat.T / flat.shape[1]).astype(np.float64)


def majority(pairs: Real) -> Real:
    """(K, K) agreements -> (K,): each site's ⌊K/2⌋-th best with another; K at least 2."""
    others = np.where(np.eye(len(pairs), dtype=bool), -np.inf, pairs)
    return np.asarray(-np.sort(-others, axis=1)[:, len(pairs) // 2 - 1])


def ramp(values: Real, low: float, high: float) -> Real:
    """0 up to `low`, 1 from `high`, a straight line in between."""
    return np.clip((values - low) / (high - low), 0, 1)


@dataclass(frozen=True)
class Trust:
    """What the answers of a run say about each site. `correlation`: (K, K), `level`: (K,) mean of its masks, 0..1."""

    sites: tuple[str, ...]
    correlation: Real
    level: Real
    pictures: int

    @cached_property
    def agreement(self) -> Real:
        """(K,): correlation with the ⌊K/2⌋-th most similar other site."""
        return majority(self.correlation) if len(self.sites) > 1 else np.ones(1)

    @property
    def usual(self) -> float:
        """The median over the sites: that of an honest one, as long as fewer than half are bad."""
        return float(np.median(self.agreement))

    @property
    def telling(self) -> bool:
        """Whether anything can be said: at least three sites, and something that most of them have in common."""
        return len(self.sites) > 2 and self.usual >= LEAST

    @property
    def weights(self) -> dict[str, float]:
        """Per site 0 (quarantined) to 1; all 1 where nothing can be said."""
        if not self.telling:
            return dict.fromkeys(self.sites, 1.0)
        return dict(zip(self.sites, ramp(self.agreement / self.usual, QUARANTINE, DOUBT).tolist(), strict=True))

    def suspects(self) -> dict[str, str]:
        """The sites that count nothing, each with the evidence in words."""
        return {site: self._evidence(k) for k, site in enumerate(self.sites) if self.weights[site] == 0}

    def _evidence(self, k: int) -> str:
        others = float(np.median(np.delete(self.level, k)))
        rank = len(self.sites) // 2
        return (
            f"over {self.pictures} pictures its masks correlate by {self.agreement[k]:z.2f} with those of its "
            f"{_ordinal(rank)}most similar other site, where {self.usual:.2f} is usual; it calls {100 * self.level[k]:.1f} % "
            f"of the pixels a target, the others {100 * others:.1f} %"
        )


def _ordinal(rank: int) -> str:
    return {1: "", 2: "second ", 3: "third "}.get(rank, f"{rank}th ")


def trust_of(sites: Iterable[str], chunks: Iterable[Mapping[str, Masks]]) -> Trust:
    """Look through all answers once, chunk by chunk: every site's masks (n, H, W) uint8."""
    names = tuple(sites)
    total = Agreement(len(names))
    for chunk in chunks:
        for row in range(len(chunk[names[0]])):
            total.add([chunk[name][row] for name in names])
    count = max(1, total.pictures)
    return Trust(names, total.correlation, total.level / count, total.pictures)
