"""K binary masks of a picture as patterns of votes: schemes that iterate work on at most 2^K numbers instead of the pixels."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nakt_fed.weightings.scheme import Masks

MOST_COUNTED = 16  # sites for which a table of all patterns is held


@dataclass(frozen=True)
class Patterns:
    """`votes` (P, K) bool: who sees a target; `counts` (P,) its pixels, none of them 0; `places` (1, H, W): the pattern of each pixel."""

    votes: NDArray[np.bool_]
    counts: NDArray[np.int64]
    places: NDArray[np.intp]

    def painted(self, values: NDArray[np.float64]) -> Masks:
        """(P,) probabilities -> (1, H, W) uint8."""
        return np.rint(255 * values).astype(np.uint8)[self.places]


def patterns_of(masks: Iterable[Masks]) -> Patterns:
    """Of one picture, (1, H, W) uint8 per site; a target begins at 128."""
    rows = list(masks)
    codes = np.zeros(rows[0].shape, np.uint16 if len(rows) <= MOST_COUNTED else np.uint64)
    for k, mask in enumerate(rows):
        codes |= (mask >> 7).astype(codes.dtype) << codes.dtype.type(k)
    if len(rows) <= MOST_COUNTED:
        counts = np.bincount(codes.ravel(), minlength=2 ** len(rows))
        found = np.flatnonzero(counts)
        places = (np.cumsum(counts > 0) - 1)[codes]
        counts = counts[found]
    else:
        found, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
        places = places.reshape(codes.shape)
    votes = found[:, None] >> np.arange(len(rows), dtype=found.dtype) & found.dtype.type(1)
    return Patterns(votes.astype(bool), counts, places)


def dice_with(votes: NDArray[np.bool_], counts: NDArray[np.int64], fused: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Dice of every site's mask with a mask given per pattern, (K,); both empty: 1 (DESIGN §3)."""
    sizes = counts @ votes + counts @ fused
    both = counts @ (votes & fused[:, None])
    return np.where(sizes > 0, 2 * both / np.maximum(sizes, 1), 1.0)
