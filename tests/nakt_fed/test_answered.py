"""A site that went away in the middle: each chunk is fused from exactly the sites that have answered it."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nakt_fed.answered import Combiners, pictures_answered, sites_of_chunks
from nakt_fed.errors import RunError, StudyError
from nakt_fed.exchange import Reply, Request
from nakt_fed.filtering import read_filter
from nakt_fed.fusion import ONE, fixed_point
from nakt_fed.run import run_study
from nakt_fed.store import ChunkStore, open_group
from nakt_fed.student import StudentJob, train_student
from nakt_fed.study.tables import FusionSpec
from tests.reference.fusion import integer_mean
from tests.tiny import CARD, Tamper, hospitals, megabytes, tiny_study

NAMES = ("ann", "bob", "eve")
COUNT, CHUNK = 7, 2  # 4 chunks, the last of one picture
answers = st.lists(st.sets(st.sampled_from(NAMES), min_size=1), min_size=4, max_size=4)
weights = st.fixed_dictionaries({name: st.floats(0.01, 100) for name in NAMES})


@given(answers, weights, st.randoms())
@settings(max_examples=30, deadline=None)
def test_each_chunk_is_the_mean_of_those_who_have_answered_it(
    tmp_path_factory: pytest.TempPathFactory,
    here: list[set[str]],
    weights: dict[str, float],
    dice: random.Random,
) -> None:
    """As a run with exactly these sites would have it, whatever the order of the sites, with weights of exactly 65536."""
    store = ChunkStore(tmp_path_factory.mktemp("s"), COUNT, 4, CHUNK)
    noise = np.random.default_rng(1)
    for number, sites in enumerate(here):
        for name in sites:
            store.write(name, number, noise.integers(0, 256, (len(store.chunks[number]), 4, 4), dtype=np.uint8))
    fusion, cards = FusionSpec(weighting="fixed", weights=weights), dict.fromkeys(NAMES, CARD)
    found = sites_of_chunks(store, NAMES, Combiners(fusion, cards, store))
    for number, (sites, each) in enumerate(zip(here, found, strict=True)):
        assert set(each.combine.weights) == set(each.names) == sites
        assert sum(each.combine.weights.values()) == ONE
        masks = {name: store.read(name, number) for name in sites}
        expected = integer_mean(masks, fixed_point({name: weights[name] for name in sorted(sites)}))
        np.testing.assert_array_equal(each.combine(masks), expected)
    again = sites_of_chunks(store, dice.sample(NAMES, 3), Combiners(fusion, cards, store))
    assert [each.combine.mark for each in again] == [each.combine.mark for each in found]
    told = {name: sum(len(store.chunks[n]) for n, sites in enumerate(here) if name in sites) for name in NAMES}
    assert pictures_answered(store, NAMES) == {name: count for name, count in told.items() if count}


def test_entropy_counts_where_somebody_answered_softly(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path, 4, 4, 2)
    for name, number in (("ann", 0), ("ann", 1), ("bob", 0)):
        store.write(name, number, np.zeros((2, 4, 4), np.uint8))
    cards = {"ann": {**CARD, "binary": True}, "bob": CARD}
    found = sites_of_chunks(store, ("ann", "bob"), Combiners(FusionSpec(), cards, store))
    assert [each.soft for each in found] == [True, False]


def test_a_chunk_whose_sites_weigh_nothing_is_refused(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path, 4, 4, 2)
    for name, number in (("ann", 0), ("ann", 1), ("bob", 0)):
        store.write(name, number, np.zeros((2, 4, 4), np.uint8))
    fusion = FusionSpec(weighting="fixed", weights={"ann": 0, "bob": 1})
    with pytest.raises(StudyError, match=r"weights of the sites \['ann'\] are all zero; give at least one"):
        sites_of_chunks(store, ("ann", "bob"), Combiners(fusion, {"ann": CARD, "bob": CARD}, store))


def leaves(after: int, reply: Callable[[Reply], Reply]) -> Tamper:
    """bob answers so many chunks of masks, and from then on something else."""
    left = iter(range(after))

    def tamper(site: str, request: Request, good: Reply) -> Reply:
        return reply(good) if (site, request.kind) == ("bob", "masks") and next(left, None) is None else good

    return tamper


def gone(reply: Reply) -> Reply:
    return Reply(False, {"reason": "unreachable"})


def garbage(reply: Reply) -> Reply:
    return Reply(True, reply.meta, b"garbage")


class WithoutBob:
    """Sites of which bob never comes."""

    def __init__(self, sites: Any) -> None:
        self.names, self.exchange = sites.names, sites.exchange

    def arrivals(self) -> Iterator[list[str]]:
        yield ["ann"]


def carry_out(folders: Path, run: Path, how: str, sites: Any = None, min_sites: int = 1, **behaviour: Any) -> Any:
    """Its results. 7 pictures in chunks of 2."""
    run.mkdir(exist_ok=True)
    table = {"chunk_mb": megabytes(2), "min_sites": min_sites, "unfinished": how}
    study = tiny_study(folders, transferal={"views": 0}, round=table)
    run_study(study, run, sites or hospitals(study, run, **behaviour), one_epoch)
    return json.loads((run / "results.json").read_text())


def one_epoch(job: StudentJob) -> None:
    train_student(job.model_copy(update={"recipe": job.recipe.model_copy(update={"epochs": 1})}))


def stack(run: Path, name: str, place: str = "masks.zarr") -> np.ndarray:
    return np.asarray(open_group(run / place)[name][:])  # type: ignore[index]


@pytest.mark.usefixtures("plain_report")
class TestRuns:
    def test_finished_chunks_of_a_site_that_went_away_are_used(self, folders: Path, tmp_path: Path) -> None:
        results = carry_out(folders, tmp_path / "run", "use", tamper=leaves(2, gone))
        ann, bob, pseudo = (stack(tmp_path / "run", name) for name in ("masks/ann", "masks/bob", "pseudo"))
        half = {"ann": 32768, "bob": 32768}
        np.testing.assert_array_equal(pseudo[:4], integer_mean({"ann": ann[:4], "bob": bob[:4]}, half))
        np.testing.assert_array_equal(pseudo[4:], ann[4:])
        assert not (pseudo[:4] == ann[:4]).all()
        assert [verdict.sites for verdict in read_filter(tmp_path / "run" / "filter.csv")] == [2] * 4 + [1] * 3
        assert results["answered"] == {"ann": 7, "bob": 4}
        assert results["weights"] == {"ann": 0.5, "bob": 0.5}
        assert results["set_aside"] == {"bob": "unreachable; is it running and connected?"}

    def test_on_test_sets_only_who_has_answered_everything_counts(self, folders: Path, tmp_path: Path) -> None:
        results = carry_out(folders, tmp_path / "run", "use", tamper=leaves(2, gone))
        assert set(results["dice"]) == {"teacher:ann", "ensemble", "student"}
        assert [site["name"] for site in results["sites"]] == ["ann"]
        place = "tests/outside/masks.zarr"
        ensemble, ann = (stack(tmp_path / "run", f"masks/{name}", place) for name in ("ensemble", "ann"))
        np.testing.assert_array_equal(ensemble, ann)

    def test_by_default_they_are_not_used(self, folders: Path, tmp_path: Path) -> None:
        results = carry_out(folders, tmp_path / "run", "drop", tamper=leaves(2, gone))
        np.testing.assert_array_equal(stack(tmp_path / "run", "pseudo"), stack(tmp_path / "run", "masks/ann"))
        assert (results["answered"], results["weights"]) == ({"ann": 7, "bob": 4}, {"ann": 1.0})

    def test_of_a_site_that_answered_garbage_nothing_is_used(self, folders: Path, tmp_path: Path) -> None:
        results = carry_out(folders, tmp_path / "run", "use", tamper=leaves(2, garbage))
        assert (results["answered"], results["weights"]) == ({"ann": 7, "bob": 4}, {"ann": 1.0})

    def test_a_site_that_does_not_come_back_after_a_resume(self, folders: Path, tmp_path: Path) -> None:
        """Its teacher's card is remembered; the same bytes as when the run had gone on at once."""
        carry_out(folders, tmp_path / "at-once", "use", tamper=leaves(2, gone))
        run = tmp_path / "later"
        with pytest.raises(RunError, match=r"1 of 2 sites are left, at least round.min_sites = 2"):
            carry_out(folders, run, "drop", min_sites=2, tamper=leaves(2, gone))
        study = tiny_study(folders, transferal={"views": 0}, round={"chunk_mb": megabytes(2)})
        results = carry_out(folders, run, "use", WithoutBob(hospitals(study, run)))
        assert results["weights"] == {"ann": 0.5, "bob": 0.5}
        assert "did not come in time" in results["set_aside"]["bob"]
        for name in ("filter.csv", "student.safetensors"):
            assert (run / name).read_bytes() == (tmp_path / "at-once" / name).read_bytes()

    def test_a_changed_mind_fuses_again_and_asks_nobody(self, folders: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        carry_out(folders, run, "drop", tamper=leaves(2, gone))
        (run / "student.safetensors").unlink()  # as if killed before the student was saved
        study = tiny_study(folders, transferal={"views": 0}, round={"chunk_mb": megabytes(2)})
        again = hospitals(study, run)
        assert carry_out(folders, run, "use", again)["weights"] == {"ann": 0.5, "bob": 0.5}
        assert again.asked == []
