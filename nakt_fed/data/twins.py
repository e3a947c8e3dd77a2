"""Which pictures look alike: a perceptual hash of 255 bits, and how many of them differ."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nakt_fed.data.pictures import Gray

SIDE, FREQUENCIES = 32, 16
NEAR = 48
"""At most so many of 255 bits differ between near-duplicates (docs/data.md says what was measured)."""
ROWS = 16
"""Compared with all others at once: few enough that the counts stay in the processor's cache."""

Hash = npt.NDArray[np.uint64]


def picture_hash(gray: Gray) -> Hash:
    """Signs of the lowest 16×16 frequencies of the picture at 32×32: a DCT hash, as in pHash (Zauner 2010, section 3.2.1).

    Size, brightness, contrast and light noise hardly change it; a crop of a few per cent changes some bits.

    Args:
        gray: (h, w) uint8.

    Returns:
        (4,) uint64.
    """
    small = np.asarray(Image.fromarray(gray).resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    signs = dctn(small, norm="ortho")[:FREQUENCIES, :FREQUENCIES] > 0
    signs[0, 0] = False  # the mean brightness
    return np.packbits(signs).view(np.uint64)


def _mirror() -> Hash:
    """What a left-right flip changes: the sign of every odd horizontal frequency."""
    odd = np.broadcast_to(np.arange(FREQUENCIES) % 2 == 1, (FREQUENCIES, FREQUENCIES))
    return np.packbits(odd).view(np.uint64)


def near_pairs(hashes: Sequence[Hash] | Hash, most: int = NEAR) -> npt.NDArray[np.int64]:
    """Pairs of pictures of which at most `most` bits differ, seen as they are or one of them mirrored.

    Args:
        hashes: (n, 4) uint64.

    Returns:
        (pairs, 2) int64, the smaller index first.
    """
    table = np.asarray(hashes, np.uint64).reshape(-1, 4)
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(table), ROWS):
        rows, others = table[start : start + ROWS], table[start:]
        near = _differ(rows, others) <= most
        near |= _differ(rows ^ _mirror(), others) <= most
        first, second = np.nonzero(near)
        found.append(np.stack([first, second], axis=1)[first < second] + start)
    return np.concatenate(found)


def _differ(rows: Hash, others: Hash) -> npt.NDArray[np.uint16]:
    """(n, m) differing bits."""
    count = np.zeros((len(rows), len(others)), np.uint16)
    for word in range(4):
        count += np.bitwise_count(rows[:, word, None] ^ others[None, :, word])
    return count


def joined(count: int, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(count,) int64: one number for all that are joined by `pairs` (n, 2), directly or through others."""
    ends = pairs.reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def alike(names: Sequence[str], pairs: npt.NDArray[np.int64]) -> list[list[str]]:
    """Groups of two and more near-duplicates, by name; chains are one group. `pairs` are those of `near_pairs`."""
    numbers = joined(len(names), pairs)
    groups: dict[int, list[str]] = {}
    for index in np.unique(pairs):
        groups.setdefault(int(numbers[index]), []).append(names[index])
    return sorted(sorted(group) for group in groups.values())
