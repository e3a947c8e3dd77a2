"""Leave-one-out and Shapley contributions: what a site adds to the others."""

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
Value = Callable[[frozenset[str]], Real]
"""Coalition of sites -> its value on every picture, (n,); of nobody 0."""

MOST_EXACT = 8
"""Sites up to which all coalitions are valued (256); beyond, orders are drawn."""
ORDERS = 200


def leave_one_out(sites: Sequence[str], value: Value) -> dict[str, Real]:
    """v(all) − v(all but the site), per picture."""
    everyone = frozenset(sites)
    return {site: value(everyone) - value(everyone - {site}) for site in sites}


def shapley(sites: Sequence[str], value: Value, *, seed: int = 0, orders: int = ORDERS) -> dict[str, Real]:
    """The Shapley value of each site, per picture: what it adds to those before it, on average over all orders.

    Shapley, "A Value for n-Person Games", 1953. The values of all sites sum to v(all) − v(nobody). Beyond 8 sites over
    `orders` random orders (Castro, Gómez and Tejada, Computers & Operations Research 36(5), 2009): the sum still holds.
    """
    known = cache(value)
    return _exact(sites, known) if len(sites) <= MOST_EXACT else _sampled(sites, known, seed, orders)


def _exact(sites: Sequence[str], value: Value) -> dict[str, Real]:
    k = len(sites)
    totals: dict[str, Real] = dict.fromkeys(sites, np.zeros(()))
    for code in range(2**k):
        coalition = frozenset(site for place, site in enumerate(sites) if code >> place & 1)
        size = len(coalition)
        for site in set(sites) - coalition:
            share = math.factorial(size) * math.factorial(k - size - 1) / math.factorial(k)
            totals[site] = totals[site] + share * (value(coalition | {site}) - value(coalition))
    return totals


def _sampled(sites: Sequence[str], value: Value, seed: int, orders: int) -> dict[str, Real]:
    rng = np.random.default_rng(seed)
    totals: dict[str, Real] = dict.fromkeys(sites, np.zeros(()))
    for _ in range(orders):
        before: frozenset[str] = frozenset()
        for place in rng.permutation(len(sites)):
            after = before | {sites[place]}
            totals[sites[place]] = totals[sites[place]] + (value(after) - value(before)) / orders
            before = after
    return totals
