"""What a site is asked next: a law over every order in which its answers may come."""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nakt_fed.manifest import Manifest
from nakt_fed.plan import OFFER, Plan, Step
from nakt_fed.shared_set import SharedSet
from nakt_fed.views import ViewScheme


def shared(originals: int, views: int, chunk: int) -> SharedSet:
    scheme = ViewScheme(0, views, 0.5) if views else None
    ids = tuple(map(str, range(originals * (1 + views))))
    return SharedSet("transferal", Manifest(ids, ids, 32, scheme), Path("nowhere"), chunk)


def chunks_of(pictures: SharedSet, count: int) -> int:
    return -(-count // pictures.chunk)


@dataclass
class Site:
    """A site that checks that it is never asked for masks of pictures that it does not have, nor gets with the question."""

    plan: Plan
    held: set[int]

    def is_asked(self, steps: list[Step]) -> None:
        whole, brought = self.plan.shared.manifest, {chunk for kind, chunk in steps if kind == "pictures"}
        for chunk in [chunk for kind, chunk in steps if kind == "masks" and chunk is not None]:
            only_originals = min((chunk + 1) * self.plan.shared.chunk, len(whole)) <= whole.originals
            needed = {chunk} if only_originals else set(range(chunks_of(self.plan.shared, whole.originals)))
            assert needed <= self.held | brought

    def answers(self, step: Step, well: bool) -> None:
        kind, chunk = step
        if kind == "offer":
            missing = set(range(chunks_of(self.plan.shared, self.plan.shared.manifest.originals))) - self.held
            self.plan.accepted(missing)
            self.plan.answered(OFFER)
        elif well:
            self.held |= {chunk} if kind == "pictures" and chunk is not None else set()
            self.plan.answered(step)
        else:
            self.plan.failed(step)


@given(
    st.integers(1, 12), st.integers(0, 2), st.integers(1, 5), st.sets(st.integers(0, 11)), st.integers(0, 999),
    st.integers(1, 6),
)  # fmt: skip
def test_every_mask_is_asked_once_and_never_before_its_pictures(
    originals: int, views: int, chunk: int, held: set[int], seed: int, in_flight: int
) -> None:
    """Messages are answered in any order, one step in four unusably; what is behind such a step is not answered."""
    dice, pictures = random.Random(seed), shared(originals, views, chunk)
    wanted = list(range(chunks_of(pictures, len(pictures.manifest))))
    plan = Plan(pictures, wanted)
    site, good, flying = Site(plan, set(held)), list[Step](), list[list[Step]]()
    while not plan.done:
        while len(flying) < in_flight and (steps := plan.take()):
            site.is_asked(steps)
            flying.append(steps)
        assert flying, "something is left, so something is on its way"
        for step in flying.pop(dice.randrange(len(flying))):
            well = dice.random() < 0.75
            site.answers(step, well)
            good += [step] if well or step == OFFER else []
            if not well:
                break
    assert sorted(number for kind, number in good if kind == "masks" and number is not None) == wanted
    lacking = set(range(chunks_of(pictures, originals))) - held
    assert sorted(number for kind, number in good if kind == "pictures" and number is not None) == sorted(lacking)


def test_each_chunk_goes_out_with_the_question_for_its_masks() -> None:
    """A chunk with views in it is asked once all originals are there: four originals, four views, in chunks of three."""
    plan, order = Plan(shared(originals=4, views=1, chunk=3), range(3)), list[Step]()
    while not plan.done:
        for step in plan.take():
            order.append(step)
            if step == OFFER:
                plan.accepted(range(2))
            plan.answered(step)
    out: list[Step] = [OFFER, ("pictures", 0), ("masks", 0), ("pictures", 1), ("masks", 1), ("masks", 2)]
    assert order == out


def test_where_no_masks_are_wanted_no_pictures_are_sent() -> None:
    plan = Plan(shared(originals=4, views=0, chunk=1), [])
    assert plan.take() == [OFFER]
    plan.accepted(range(4))
    plan.answered(OFFER)
    assert plan.done


@pytest.mark.parametrize("views", [0, 1])
def test_what_fails_is_asked_after_all_else(views: int) -> None:
    plan = Plan(shared(originals=3, views=views, chunk=1), range(3))
    plan.take()
    plan.accepted([])
    plan.answered(OFFER)
    [first] = plan.take()
    assert plan.failed(first) == 1
    rest = [plan.take(), plan.take(), plan.take(), plan.take()]
    assert rest == [[("masks", 1)], [("masks", 2)], [("masks", 0)], []]
    assert plan.failed(("masks", 0)) == 2


def test_where_pictures_fail_their_masks_are_asked_with_them_again() -> None:
    plan = Plan(shared(originals=2, views=0, chunk=1), range(2))
    plan.take()
    plan.accepted(range(2))
    plan.answered(OFFER)
    both: list[Step] = [("pictures", 0), ("masks", 0)]
    assert plan.take() == both
    assert plan.failed(("pictures", 0)) == 1
    assert plan.take() == [("pictures", 1), ("masks", 1)]
    assert plan.take() == both
