import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nakt_fed.data.split import split, split_groups

names = st.lists(st.text(min_size=1, max_size=8), max_size=40, unique=True)
shares = st.floats(0, 0.999)
seeds = st.integers(0, 2**31 - 1)


@given(names, shares, seeds)
def test_disjoint_exhaustive_ascending(ids, share, seed):
    rest, held_out = split(ids, share, seed)
    assert sorted(rest + held_out) == list(range(len(ids)))
    assert rest == sorted(rest)
    assert held_out == sorted(held_out)


@given(names, shares, seeds, st.randoms(use_true_random=False))
def test_independent_of_the_order(ids, share, seed, random):
    shuffled = random.sample(ids, len(ids))
    assert {ids[i] for i in split(ids, share, seed)[1]} == {shuffled[i] for i in split(shuffled, share, seed)[1]}


@given(names, shares, shares, seeds)
def test_a_larger_share_holds_out_what_the_smaller_did_and_more(ids, one, other, seed):
    small, large = (set(split(ids, share, seed)[1]) for share in sorted((one, other)))
    assert small <= large


@pytest.mark.parametrize(
    ("n", "share", "held_out"),
    [
        (180, 0.2, 36),
        (10, 0.25, 2),  # round half to even
        (5, 0.01, 1),  # at least one
        (2, 0.9, 1),  # at least one stays
        (1, 0.5, 0),
        (0, 0.5, 0),
        (9, 0.0, 0),
    ],
)
def test_the_count(n, share, held_out):
    rest, held = split([f"x/{i}" for i in range(n)], share, seed=7)
    assert (len(rest), len(held)) == (n - held_out, held_out)


def test_the_rule_is_the_smallest_sha256_of_seed_and_id():
    ids = list("abcdefgh")
    ranking = sorted(ids, key=lambda name: hashlib.sha256(b"3|" + name.encode()).hexdigest())
    assert sorted(ids[i] for i in split(ids, 0.5, 3)[1]) == sorted(ranking[:4])


def test_another_seed_gives_another_split():
    ids = [str(i) for i in range(100)]
    assert split(ids, 0.2, 1) != split(ids, 0.2, 2)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.floats(0, 0.95), st.integers(0, 99))
def test_groups_stay_whole(groups: list[int], share: float, seed: int) -> None:
    names = [f"g{group}" for group in groups]
    rest, held_out = split_groups(names, share, seed)
    assert sorted(rest + held_out) == list(range(len(names)))
    assert not {names[i] for i in rest} & {names[i] for i in held_out}
    assert rest
    if share and len(set(names)) > 1:
        assert held_out
        smallest = min(names.count(name) for name in set(names))
        assert len(held_out) <= max(round(share * len(names)), smallest)
