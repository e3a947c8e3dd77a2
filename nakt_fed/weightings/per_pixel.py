"""One weight per pixel and site, which the site's own answer decides: sums of (w·p, w), made at the site."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nakt_fed.weightings.mean import LEVELS, rounded_ratio
from nakt_fed.weightings.scheme import Masks, Sums, weighting
from nakt_fed.weightings.tables import LOGITS, looked_up

Part = Callable[[Masks], tuple[NDArray[np.uint32], NDArray[np.uint32]]]


def _part(weight: NDArray[np.float64]) -> Part:
    """(w·q, w) by table from 256 weights in 0 to 1; the smallest counts a little, so that no pixel is without a weight."""
    whole = np.maximum(np.rint(weight * LEVELS), 1)
    products: NDArray[np.uint32] = (whole * np.arange(256)).astype(np.uint32)
    weights: NDArray[np.uint32] = whole.astype(np.uint32)
    return lambda masks: (looked_up(products, masks), looked_up(weights, masks))


def _certainty(p: float) -> float:
    """1 − H(p)/ln 2: 1 where the site is sure, 0 at one half."""
    return 1.0 + sum(share * math.log2(share) for share in (p, 1 - p) if share)


@weighting(needs="sums", soft=True, part=_part(np.array([_certainty(q / 255) for q in range(256)])))
def confidence(x: Sums) -> Masks:
    """Sure pixels count more: w = 1 − H(p)/ln 2, H being the binary entropy of the site's own answer.

    Uncertainty-weighted averaging as in Kovalchuk et al., "Who to Trust? Aggregating Client Knowledge in Logit-Based Federated
    Learning" (arXiv 2509.15147), per pixel.
    """
    return rounded_ratio(*x.parts)


@weighting(needs="sums", soft=True, part=_part((LOGITS / LOGITS.max()) ** 2))
def variance(x: Sums) -> Masks:
    """The variance of a site's logits over the classes is its weight (Fed-ET: Cho et al., IJCAI 2022, arXiv 2204.12703, section 3.2).

    A pixel has the classes target and background with the logits z/2 and −z/2, whose variance is z²/4. z is taken at a
    quarter of a gray level where the answer is 0 or 255.
    """
    return rounded_ratio(*x.parts)
