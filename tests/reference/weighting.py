"""Schemes for combining masks, pixel by pixel in plain Python or NumPy on whole masks: written from the papers, not from ours."""

import math
from itertools import permutations
from statistics import median

import numpy as np
from numpy.typing import NDArray

Levels = list[list[int]]
"""A row per site, a column per pixel: 0 to 255."""
Real = NDArray[np.float64]


def per_pixel(levels: Levels, weight: object) -> list[float]:
    """Σ w(p)·q / Σ w(p)."""
    result = []
    for column in zip(*levels, strict=True):
        w = [weight(q / 255) for q in column]  # type: ignore[operator]
        result.append(math.fsum(a * q for a, q in zip(w, column, strict=True)) / math.fsum(w))
    return result


def certainty(p: float) -> float:
    entropy = -sum(x * math.log(x) for x in (p, 1 - p) if x > 0)
    return 1 - entropy / math.log(2)


def logit(p: float) -> float:
    p = min(max(p, 1 / 1020), 1019 / 1020)
    return math.log(p) - math.log1p(-p)


def logit_variance(p: float) -> float:
    return float(np.var([logit(p) / 2, -logit(p) / 2]))


def log_pool(levels: Levels) -> list[float]:
    """p ∝ Π p_k^(1/K), for target and background, normalised; levels 0 to 255."""
    result = []
    for column in zip(*levels, strict=True):
        p = [1 / (1 + math.exp(-logit(q / 255))) for q in column]
        target = math.prod(p) ** (1 / len(p))
        rest = math.prod(1 - x for x in p) ** (1 / len(p))
        result.append(255 * target / (target + rest))
    return result


def entropy_reduced(levels: Levels, temperature: float) -> list[float]:
    """softmax((p̄, 1 − p̄) / T), first entry."""
    result = []
    for column in zip(*levels, strict=True):
        p = sum(column) / len(column) / 255
        top = max(p, 1 - p) / temperature
        both = [math.exp(x / temperature - top) for x in (p, 1 - p)]
        result.append(255 * both[0] / sum(both))
    return result


def voted(levels: Levels) -> list[int]:
    result = []
    for column in zip(*levels, strict=True):
        votes = [q / 255 > 0.5 for q in column]
        mean = sum(column) / len(column) / 255
        target = mean > 0.5 if 2 * sum(votes) == len(votes) else 2 * sum(votes) > len(votes)
        result.append(255 * target)
    return result


def half_up(value: float) -> int:
    return math.floor(value + 0.5)


def middle(levels: Levels) -> list[int]:
    return [half_up(median(column)) for column in zip(*levels, strict=True)]


def trimmed(levels: Levels, cut: int) -> list[int]:
    kept = [sorted(column)[cut : len(column) - cut] for column in zip(*levels, strict=True)]
    return [half_up(sum(column) / len(column)) for column in kept]


def staple(masks: NDArray[np.bool_], steps: int = 3000) -> Real:
    """(K, P) bool -> posterior (P,), pixel by pixel: E- and M-steps of Warfield et al. from the share of votes."""
    votes = masks.astype(float)
    w = votes.mean(axis=0)
    prior = votes.mean()
    for _ in range(steps):
        p = [(w * d).sum() / w.sum() if w.sum() else 1.0 for d in votes]
        q = [((1 - w) * (1 - d)).sum() / (1 - w).sum() if (1 - w).sum() else 1.0 for d in votes]
        a = prior * np.prod([np.where(d == 1, x, 1 - x) for d, x in zip(votes, p, strict=True)], axis=0)
        b = (1 - prior) * np.prod([np.where(d == 1, 1 - x, x) for d, x in zip(votes, q, strict=True)], axis=0)
        new = np.divide(a, a + b, out=votes.mean(axis=0), where=a + b > 0)
        if np.abs(new - w).max() < 1e-12:
            break
        w = new
    return w


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    size = int(a.sum() + b.sum())
    return 2 * int((a & b).sum()) / size if size else 1.0


def rasa(masks: NDArray[np.bool_], steps: int = 10) -> Real:
    """(K, P) bool -> weights (K,): weigh by ln(1/(distance + 1e-5) + 1), vote, measure 1 − IoU, again."""
    weights = np.full(len(masks), 1 / len(masks))
    last = None
    for _ in range(steps):
        score = (weights[:, None] * masks).sum(axis=0)
        fused = score >= 0.5 - 1e-9
        distances = [1 - (m & fused).sum() / (m | fused).sum() if (m | fused).any() else 0.0 for m in masks]
        weights = np.log(1 / (np.array(distances) + 1e-5) + 1)
        weights = weights / weights.sum()
        if last is not None and ((score - last) ** 2).sum() <= 1e-5 * (score**2).sum():
            break
        last = score
    return weights


def consensus_quality(levels: Levels, members: tuple[int, ...], gate: float) -> float:
    """KD3A's Σ n·p over the pixels that some site (of all) surely calls a target; 0 without a winner. In probability."""
    total = 0.0
    for column in zip(*levels, strict=True):
        p = [q / 255 for q in column]
        if not any(x > 0.5 and x >= gate for x in p):
            continue
        sides: dict[bool, list[float]] = {True: [], False: []}
        for k in members:
            if max(p[k], 1 - p[k]) >= gate:
                sides[p[k] > 0.5].append(max(p[k], 1 - p[k]))
        a, b = sides[True], sides[False]
        if len(a) != len(b):
            total += math.fsum(max(a, b, key=len))
    return total


def shapley(levels: Levels, gate: float) -> list[float]:
    """The mean, over all orders, of what a site adds."""
    sites = range(len(levels))
    values = [0.0] * len(levels)
    orders = list(permutations(sites))
    for order in orders:
        for place, site in enumerate(order):
            after = consensus_quality(levels, order[: place + 1], gate)
            values[site] += (after - consensus_quality(levels, order[:place], gate)) / len(orders)
    return values
