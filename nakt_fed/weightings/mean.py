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
    real = {site: _real(site, weights[site]) for site in soft}
    depth = max(values.ndim for values in real.values())
    if depth == 0:
        return fuse(soft, fixed_point({site: float(value) for site, value in real.items()}))
    full = {site: _full(site, real[site], shape[: 1 if depth == 1 else 3]) for site in soft}
    if depth == 1:
        rows = range(shape[0])
        return np.concatenate([_picture({s: m[i : i + 1] for s, m in soft.items()}, full, i) for i in rows])
    return np.concatenate([_pixels(soft, full, i) for i in range(shape[0])])


def refuse_missing(weights: Weights, sites: Iterable[str]) -> None:
    """Raise StudyError unless every site has a weight."""
    if not isinstance(weights, Mapping):
        raise StudyError(f"the weighting gave {type(weights).__name__}; return {{site: weight}} for every site")
    missing = [site for site in sites if site not in weights]
    if missing:
        raise StudyError(f"the weighting gave no weight for {missing}; return one for every site")


def numbers(weights: Any, sites: Iterable[str]) -> dict[str, float]:
    """One number per site, in the order of `sites`. Raises StudyError: a site has none, or something else."""
    sites = list(sites)
    refuse_missing(weights, sites)
    real = {site: _real(site, weights[site]) for site in sites}
    for site, value in real.items():
        if value.ndim:
            raise StudyError(f"the weight of site {site!r} has shape {value.shape}; return one number for every site")
    return {site: float(value) for site, value in real.items()}


def _real(site: str, weight: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(weight, dtype=np.float64)
    except (TypeError, ValueError):
        raise StudyError(f"the weight of site {site!r} is {weight!r}; expected numbers of at least 0") from None


def _full(site: str, values: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
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
