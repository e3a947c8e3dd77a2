"""Σ w·q / Σ w for weights of a run, of a picture or of a pixel: the one form that all weights have."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nakt_fed.errors import StudyError
from nakt_fed.fusion import fixed_point, fuse
from nakt_fed.weightings.scheme import Masks, Weights

LEVELS = 65535
"""Weights per pixel are 16-bit integers; 65535 · 255 · 257 sites fit into 32 bits."""


def weighted_mean(soft: Mapping[str, Masks], weights: Weights) -> Masks:
    """The weighted mean of soft masks (n, H, W) uint8, in integers: the same bit for bit in any order, on any machine.

    Args:
        weights: per site a number, (n,) one per picture (both in fixed point, Σ = 65536), or (n, H, W) one per pixel (in 65535ths
            of the picture's largest). Where all sites of a picture or a pixel have weight 0, they count alike.

    Raises:
        StudyError: a site has no weight, or one that is negative or not finite, has another shape, or numbers for the whole are all zero.
    """
    refuse_missing(weights, soft)
    shape = next(iter(soft.values())).shape
    depth = max(np.ndim(weights[site]) for site in soft)
    if depth == 0:
        return fuse(soft, fixed_point({site: float(weights[site]) for site in soft}))
    full = {site: _full(site, weights[site], shape[: 1 if depth == 1 else 3]) for site in soft}
    if depth == 1:
        rows = range(shape[0])
        return np.concatenate([_picture({s: m[i : i + 1] for s, m in soft.items()}, full, i) for i in rows])
    return np.concatenate([_pixels(soft, full, i) for i in range(shape[0])])


def refuse_missing(weights: Weights, sites: Iterable[str]) -> None:
    """Raise StudyError unless every site has a weight."""
    missing = [site for site in sites if site not in weights]
    if missing:
        raise StudyError(f"the weighting gave no weight for {missing}; return one for every site")


def _full(site: str, weight: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    values = np.asarray(weight, dtype=np.float64)
    if values.shape not in {(), shape, shape[:1]}:
        raise StudyError(
            f"weights of site {site!r} have shape {values.shape}; give a number, {shape[:1]} one per picture, or one per pixel"
        )
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise StudyError(f"site {site!r} has a weight that is negative or not finite; expected numbers of at least 0")
    return np.broadcast_to(values.reshape(values.shape + (1,) * (len(shape) - values.ndim)), shape)


def _picture(soft: Mapping[str, Masks], weights: Mapping[str, NDArray[np.float64]], row: int) -> Masks:
    own = {site: float(weights[site][row]) for site in soft}
    return fuse(soft, fixed_point(own if any(own.values()) else dict.fromkeys(own, 1.0)))


def _pixels(soft: Mapping[str, Masks], weights: Mapping[str, NDArray[np.float64]], row: int) -> Masks:
    largest = max(float(weights[site][row].max()) for site in soft) or 1.0
    whole = {site: np.rint(weights[site][row] / largest * LEVELS).astype(np.uint32) for site in soft}
    none = sum(whole.values()) == 0
    products = np.zeros(none.shape, np.uint32)
    for site, weight in whole.items():
        weight[none] = 1
        products += weight * soft[site][row]
    return rounded_ratio(products, sum(whole.values()))[None]


def rounded_ratio(products: NDArray[np.uint32], weights: NDArray[np.uint32]) -> Masks:
    """products / weights, rounded half up. Both of one shape, weights above 0."""
    return ((products.astype(np.uint64) + weights // 2) // weights).astype(np.uint8)
