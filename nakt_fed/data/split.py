"""Which pictures a site keeps back for validation or test: decided by seed and id alone."""

import hashlib
from collections.abc import Sequence


def split(ids: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Hold out a share of the pictures: those whose SHA-256 of "<seed>|<id>" comes first.

    Of n > 1 pictures round(share · n) are held out, at least one when share > 0; at least one stays.

    Args:
        ids: n different names; their order does not matter.
        share: 0 <= share < 1.

    Returns:
        (rest, held_out): indices into `ids`, both ascending, disjoint, together all.
    """
    assert 0 <= share < 1
    assert len(set(ids)) == len(ids)
    ranking = sorted(range(len(ids)), key=lambda i: hashlib.sha256(f"{seed}|{ids[i]}".encode()).digest())
    count = _held_out(len(ids), share)
    return sorted(ranking[count:]), sorted(ranking[:count])


def _held_out(n: int, share: float) -> int:
    if n < 2 or share == 0:
        return 0
    return min(max(round(share * n), 1), n - 1)
