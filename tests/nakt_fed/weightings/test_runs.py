"""Every scheme in a whole run in this process, and resumed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nakt_fed.errors import StudyError
from nakt_fed.exchange import Reply, Request
from nakt_fed.run import run_study
from nakt_fed.store import open_group
from nakt_fed.student import StudentJob, train_student
from tests.tiny import hospitals, tiny_study

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plain_report")]


def one_epoch(job: StudentJob) -> None:
    train_student(job.model_copy(update={"recipe": job.recipe.model_copy(update={"epochs": 1})}))


def carry_out(folders: Path, run: Path, fit: Any = one_epoch, **fusion: Any) -> dict[str, Any]:
    study = tiny_study(folders, fusion=fusion, transferal={"views": 0})
    run.mkdir(exist_ok=True)
    run_study(study, run, hospitals(study, run), fit)
    return json.loads((run / "results.json").read_text())


def stack(run: Path, name: str) -> np.ndarray:
    return np.asarray(open_group(run / "masks.zarr")[name][:])  # type: ignore[index]


class Stopped(Exception):
    """Stands for a kill."""


def killed(job: StudentJob) -> None:
    raise Stopped


@pytest.mark.parametrize("name", ["confidence", "median", "staple", "shapley", "learned"])
def test_it_works_in_a_whole_run(folders: Path, tmp_path: Path, name: str) -> None:
    results = carry_out(folders, tmp_path / "run", weighting=name, annotated="outside")
    uniform = (stack(tmp_path / "run", "masks/ann").astype(int) + stack(tmp_path / "run", "masks/bob") + 1) // 2
    assert results["settings"]["fusion"]["weighting"] == name
    assert set(results["weights"]) == {"ann", "bob"}
    assert (results["weights"]["ann"] is None) == (name not in ("shapley", "learned"))
    assert (np.array_equal(stack(tmp_path / "run", "pseudo"), uniform)) == (name == "median")  # of two sites the mean


def test_a_killed_run_goes_on_to_the_same_bytes(folders: Path, tmp_path: Path) -> None:
    fusion = {"weighting": "shapley"}
    carry_out(folders, tmp_path / "at-once", **fusion)
    with pytest.raises(Stopped):
        carry_out(folders, tmp_path / "run", killed, **fusion)
    carry_out(folders, tmp_path / "run", **fusion)
    for name in ("filter.csv", "student.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "at-once" / name).read_bytes()


def test_another_weighting_fuses_again(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        carry_out(folders, tmp_path / "run", killed, weighting="uniform")
    before = stack(tmp_path / "run", "pseudo")
    carry_out(folders, tmp_path / "run", weighting="majority")
    assert set(np.unique(stack(tmp_path / "run", "pseudo"))) <= {0, 255}
    assert not np.array_equal(stack(tmp_path / "run", "pseudo"), before)


def test_a_site_that_does_not_tell_its_number_ends_the_run_before_a_picture_is_sent(
    folders: Path, tmp_path: Path
) -> None:
    study = tiny_study(folders, fusion={"weighting": "validation"})

    def silent(site: str, request: Request, reply: Reply) -> Reply:
        return Reply(True, {**reply.meta, "validation_dice": None}) if request.kind == "prepare" else reply

    sites = hospitals(study, tmp_path, tamper=silent)
    with pytest.raises(StudyError, match=r"needs validation_dice of every site, but \['ann', 'bob'\] give none"):
        run_study(study, tmp_path, sites, one_epoch)
    assert {request.kind for _, request in sites.asked} == {"prepare"}


def test_a_run_that_cannot_be_combined_does_not_begin(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"fusion.annotated has to name one of the test sets"):
        carry_out(folders, tmp_path / "run", weighting="learned")
    assert not (tmp_path / "run" / "masks.zarr").exists()
