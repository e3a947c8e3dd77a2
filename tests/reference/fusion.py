"""The weighted mean of soft masks, once in float64 and once in Python's unbounded integers."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def float_mean(soft: Mapping[str, NDArray[np.uint8]], weights: Mapping[str, float]) -> NDArray[np.float64]:
    """Σ w_k · q_k / Σ w_k per pixel, not rounded."""
    return np.average(
        [soft[site].astype(np.float64) for site in soft], axis=0, weights=[weights[site] for site in soft]
    )


def integer_mean(soft: Mapping[str, NDArray[np.uint8]], weights: Mapping[str, int]) -> NDArray[np.uint8]:
    """floor(Σ w_k · q_k / 65536 + 1/2) per pixel."""
    pixels = zip(*(masks.ravel().tolist() for masks in soft.values()), strict=True)
    factors = [weights[site] for site in soft]
    means = [(2 * sum(w * q for w, q in zip(factors, values, strict=True)) + 65536) // 131072 for values in pixels]
    return np.array(means, np.uint8).reshape(next(iter(soft.values())).shape)
