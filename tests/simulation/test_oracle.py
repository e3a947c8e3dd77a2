"""The in-process engine defines what is right; other engines, other orders and other chunks must give the same."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nakt_fed.exchange import Request, Sites
from nakt_fed.run import run_study
from nakt_fed.simulated_site import open_service
from nakt_fed.store import open_group
from nakt_fed.student import train_student
from nakt_fed.study import Study
from simulation.oracle import InProcess, run_in_process
from tests.tiny import SITES, UNET, Hospitals, megabytes, whole_study

pytestmark = pytest.mark.usefixtures("plain_report")


def with_teachers_of(whole: Path, folders: Path, **tables: Any) -> Study:
    """The study of `whole`, its teachers loaded instead of trained."""
    sites = [
        {
            "name": name,
            "images": f"{name}/images",
            "masks": f"{name}/masks",
            "teacher": {**UNET, "checkpoint": str(whole / "sites" / name / "teacher.safetensors")},
        }
        for name in SITES
    ]
    return whole_study(folders, site=sites, **tables)


def outcome(run: Path) -> dict[str, Any]:
    """Pseudo masks, filter.csv and the weights of both students, byte for byte; Dice."""
    pseudo = np.asarray(open_group(run / "masks.zarr")["pseudo"][:]).tobytes()  # type: ignore[index]
    files = ["filter.csv", "student.safetensors", "fine_tune/student.safetensors"]
    return {
        "pseudo": hashlib.sha256(pseudo).hexdigest(),
        "dice": json.loads((run / "results.json").read_text())["dice"],
        **{name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in files},
    }


def test_loaded_teachers_answer_as_when_they_were_trained(
    whole: Path, folders: Path, tmp_path: Path, forget: Callable[[], None]
) -> None:
    """And two runs of the oracle in different folders are the same to the last bit."""
    run_in_process(with_teachers_of(whole, folders), tmp_path)
    assert outcome(tmp_path) == outcome(whole)


@pytest.mark.parametrize(
    ("chunk", "behaviour"),
    [(8, {"order": 1}), (3, {"order": 2, "late": "bob"})],
    ids=["shuffled", "other chunks, shuffled, one site late"],
)
def test_other_engines_give_the_same(
    whole: Path, folders: Path, tmp_path: Path, forget: Callable[[], None], chunk: int, behaviour: dict[str, Any]
) -> None:
    study = with_teachers_of(whole, folders, round={"chunk_mb": megabytes(chunk)})
    engine: Sites = Hospitals({name: open_service(study, name, tmp_path) for name in SITES}, **behaviour)
    run_study(study, tmp_path, engine, train_student)
    assert outcome(tmp_path) == outcome(whole)


def test_requests_are_taken_one_at_a_time_site_after_site(
    folders: Path, tmp_path: Path, forget: Callable[[], None]
) -> None:
    taken: list[tuple[str, int]] = []

    def questions(name: str) -> Iterator[Request]:
        for number in range(2):
            taken.append((name, number))
            yield Request("hello", {"number": number})

    engine = InProcess(whole_study(folders), tmp_path)
    assert engine.names == ["ann", "bob"]
    for answered, done in enumerate(engine.exchange({name: questions(name) for name in ("bob", "ann")}), start=1):
        assert len(taken) == answered, "a request is made only when the one before was answered"
        assert (done.site, done.request.meta["number"]) == taken[-1]
        assert done.reply.meta["site"] == done.site
        assert 0 <= done.seconds < 5
    assert taken == [("bob", 0), ("bob", 1), ("ann", 0), ("ann", 1)]
