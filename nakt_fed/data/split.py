"""Which pictures a site keeps back for validation or test: decided by seed and id, or the patient's name, alone."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from nakt_fed.data.folders import PictureSet


def split_pictures(pictures: PictureSet, share: float, seed: int) -> tuple[list[int], list[int]]:
    """As `split` by the pictures' ids; as `split_groups` where it is known which of them are of one patient."""
    return split(pictures.ids, share, seed) if pictures.groups is None else split_groups(pictures.groups, share, seed)


def split(ids: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Hold out a share of the pictures: those whose SHA-256 of "<seed>|<id>" comes first.

    Of n > 1 pictures round(share · n) are held out, at least one when share > 0; at least one stays.

    Args:
        ids: n different names; their order does not matter.
        share: 0 <= share < 1.

    Returns:
        (rest, held_out): indices into `ids`, both ascending, disjoint, together all.
    """
    assert len(set(ids)) == len(ids)
    return split_groups(ids, share, seed)


def split_groups(groups: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """As `split`, but what belongs together stays together: a group is held out whole or not at all.

    Groups are held out in the order of their SHA-256; one that would make more than round(share · n) is passed over.
    When every group is larger than that, the smallest is held out; at least one group stays.

    Args:
        groups: the group of each of n pictures.
        share: 0 <= share < 1.

    Returns:
        (rest, held_out): indices into `groups`, both ascending, disjoint, together all.
    """
    assert 0 <= share < 1
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    ranking = sorted(members, key=lambda group: hashlib.sha256(f"{seed}|{group}".encode()).digest())
    held_out: list[int] = []
    if len(ranking) > 1 and share > 0:
        wanted = max(round(share * len(groups)), 1)
        for group in ranking:
            if len(held_out) + len(members[group]) <= min(wanted, len(groups) - 1):
                held_out += members[group]
        held_out = held_out or members[min(ranking, key=lambda group: len(members[group]))]
    return sorted(set(range(len(groups))) - set(held_out)), sorted(held_out)
