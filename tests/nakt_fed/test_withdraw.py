"""A site withdraws: nothing of its masks is left, and the run becomes the one that never had it."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nakt_fed.errors import RunError, StudyError
from nakt_fed.resume import answers_alone, answers_in_use, write_study
from nakt_fed.run import run_study
from nakt_fed.store import open_group
from nakt_fed.student import train_student
from nakt_fed.study import Study
from nakt_fed.study.file import load_study
from nakt_fed.withdraw import study_without, withdraw, words
from nakt_fed.withdrawal_proof import complete_proofs, file_sha256, hashes
from simulation import sweep
from tests.command import nakt, resume, run, study_file, write_teachers
from tests.nakt_fed.test_schemas import validator
from tests.tiny import SITES, UNET, dark, hospitals, tiny_study

THREE = [
    {"name": name, "images": f"{name}/images", "masks": f"{name}/masks", "teacher": UNET, "test_share": 0.25}
    for name in (*SITES, "few")
]


def carried_out(study: Study, folder: Path) -> Path:
    """The whole run in this process, with teachers that need no training."""
    folder.mkdir(exist_ok=True)
    write_study(study, folder)
    run_study(study, folder, hospitals(study, folder, {"few": dark}), train_student)
    return folder


@pytest.fixture(scope="module")
def study(folders: Path) -> Study:
    return tiny_study(folders, site=THREE, transferal={"views": 1})


@pytest.fixture(scope="module")
def finished(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.conftest import replace_report

    with pytest.MonkeyPatch.context() as monkeypatch:
        replace_report(monkeypatch)
        return carried_out(study, tmp_path_factory.mktemp("withdraw") / "run")


def outcome(folder: Path) -> dict[str, Any]:
    """All that must be as if the site had never been there."""
    results = json.loads((folder / "results.json").read_text())
    arrays = {"pseudo": np.asarray(open_group(folder / "masks.zarr")["pseudo"][:]).tobytes()}  # type: ignore[index]
    names = ("filter.csv", "student.safetensors", "student.json", "history.csv", "study.toml", "manifest.json")
    files = {name: (folder / name).read_bytes() for name in names if name != "history.csv"}
    kept = ("sites", "weights", "dice", "transferal", "answered", "set_aside", "overlaps", "settings")
    return {
        **{key: results[key] for key in kept},
        **arrays,
        **files,
        "tests": sorted(p.name for p in (folder / "tests").iterdir()),
    }


@pytest.mark.slow
def test_nothing_of_it_is_left_and_the_result_is_that_of_a_run_without_it(
    study: Study, finished: Path, tmp_path: Path, plain_report: None
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    chunks = [path.read_bytes() for path in folder.glob("**/masks.zarr/masks/bob/c/**/*") if path.is_file()]
    before = hashes(folder)
    assert len(chunks) > 3

    proof = withdraw(folder, "bob")
    left = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert not [path for path, content in left.items() for chunk in chunks if chunk in content]
    assert not [path for path in left if "bob" in path.relative_to(folder).parts]
    assert proof["search"] == {"files": len(left), "found": []}

    carried_out(load_study(folder / "study.toml"), folder)
    other = [site for site in THREE if site["name"] != "bob"]
    never = carried_out(
        study.model_copy(update={"site": [s for s in study.site if s.name != "bob"]}), tmp_path / "never"
    )
    assert len(other) == 2
    assert outcome(folder) == outcome(never)

    validator("withdrawal").validate(proof)
    told = json.loads((folder / "withdrawals" / "bob.json").read_text())
    validator("withdrawal").validate(told)
    assert told["before"] == before
    assert told["after"] == hashes(folder)
    assert (
        told["after"]["student.safetensors"]
        == file_sha256(never / "student.safetensors")
        != before["student.safetensors"]
    )
    masks = {path for path in told["deleted"] if path.startswith("masks.zarr/masks/bob/c/")}
    assert masks == {
        str(path.relative_to(finished)) for path in (finished / "masks.zarr/masks/bob/c").rglob("*") if path.is_file()
    }
    assert all(told["deleted"][path] == file_sha256(finished / path) for path in masks)


def test_a_withdrawal_that_is_cut_goes_on(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    remove, calls = shutil.rmtree, []

    def cut(path: Path) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", cut)
    with pytest.raises(KeyboardInterrupt):
        withdraw(folder, "bob")
    monkeypatch.undo()
    assert load_study(folder / "study.toml").site_names == ["ann", "few"], "a resumed run does without it"
    whole = withdraw(Path(shutil.copytree(finished, tmp_path / "whole")), "bob")
    assert withdraw(folder, "bob")["deleted"] == whole["deleted"]
    with pytest.raises(RunError, match="the run has no site 'bob'; its sites are ann, few"):
        withdraw(folder, "bob")


def test_the_other_sites_answers_are_not_touched(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    withdraw(folder, "bob")
    for name in (
        "masks.zarr/masks/ann",
        "masks.zarr/masks_done/few",
        "tests/ann/masks.zarr/masks/few",
        "pictures.zarr",
    ):
        old, new = (sorted(p for p in (root / name).rglob("*") if p.is_file()) for root in (finished, folder))
        assert [p.read_bytes() for p in old] == [p.read_bytes() for p in new] != []
    told: Any = open_group(folder / "masks.zarr").attrs["round"]
    assert list(told["cards"]) == ["ann", "few"]


def test_impossible_withdrawals_are_refused(study: Study, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no site 'eve'; its sites are ann, bob, few"):
        study_without(study, "eve")
    with pytest.raises(RunError, match="'ann' is the only site"):
        study_without(study_without(study_without(study, "bob"), "few"), "ann")
    with pytest.raises(RunError, match="is not the folder of a run"):
        withdraw(tmp_path, "ann")
    with pytest.raises(RunError, match="no site 'eve'"):
        words(finished, "eve")
    assert "bob withdraws from" in words(finished, "bob")
    assert "masks.zarr/masks/bob/" in words(finished, "bob")


def test_nobody_withdraws_while_something_is_made_of_the_answers(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `nakt fuse` or a sweep writes after the deletion would hold the site's masks, and the proof would be wrong."""
    folder = shutil.copytree(finished, tmp_path / "run")
    with answers_in_use(folder), answers_in_use(folder):
        with pytest.raises(RunError, match=r"the answers in .* are in use by `nakt fuse`, `sweep` or `contributions`"):
            withdraw(folder, "few")
        assert "few" in load_study(folder / "study.toml").site_names
    with answers_alone(folder):
        for command in (["fuse", folder, "--weighting", "median"], ["contributions", folder]):
            done = nakt(*command)
            assert (done.code, done.out) == (1, "")
            assert "a site is withdrawing from" in done.err
        monkeypatch.setattr("sys.argv", ["sweep", str(folder), "none.toml"])
        monkeypatch.setattr(sweep, "stop_by_signal", lambda: None)
        with pytest.raises(SystemExit, match="1"):
            sweep.main()
        assert "a site is withdrawing from" in capsys.readouterr().err
    withdraw(folder, "few")


def test_the_study_forgets_the_sites_weight_and_the_number_of_sites(folders: Path) -> None:
    weights = {"ann": 1.0, "bob": 2.0, "few": 3.0}
    study = tiny_study(folders, site=THREE, fusion={"weighting": "fixed", "weights": weights}, round={"min_sites": 3})
    without = study_without(study, "bob")
    assert without.fusion.weights == {"ann": 1.0, "few": 3.0}
    assert without.min_sites == 2


def test_a_study_that_needs_the_site_is_told_so(folders: Path) -> None:
    one = [THREE[0], {**THREE[1], "test_share": 0.0}]
    with pytest.raises(StudyError, match=r"without 'ann'.*\n.*no site has a test_share"):
        study_without(tiny_study(folders, site=one, fine_tune={"at_sites": True}), "ann")


def test_students_that_other_sites_personalised_go_too(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    kept = run / "sites" / "ann" / "personalised" / "key"
    kept.mkdir(parents=True)
    (kept / "student.safetensors").write_bytes(b"learned from bob too")
    withdraw(run, "bob")
    assert not kept.exists()
    assert (run / "sites" / "ann").exists()


def test_a_proof_is_completed_once(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    withdraw(folder, "bob")
    complete_proofs(folder)
    first = (folder / "withdrawals" / "bob.json").read_text()
    (folder / "filter.csv").write_text("later")
    complete_proofs(folder)
    assert (folder / "withdrawals" / "bob.json").read_text() == first


@pytest.mark.slow
def test_the_command_asks_deletes_and_trains_again(
    folders: Path, tmp_path: Path, plain_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(shutil.copytree(folders, tmp_path / "study"))
    write_teachers(place)
    folder = run(study_file(place)).run
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    asked = nakt("withdraw", folder, "bob", "--engine", "in-process")
    assert asked.code == 130
    assert "Deleted files cannot be brought back" in asked.out
    assert (folder / "sites" / "bob").exists()
    done = nakt("withdraw", folder, "bob", "--yes", "--engine", "in-process")
    assert (done.code, done.err) == (0, "")
    assert "that are left: none of its masks" in done.out
    assert json.loads((folder / "withdrawals" / "bob.json").read_text())["after"]["results.json"]
    assert not (folder / "sites" / "bob").exists()
    again = resume(folder)
    assert (again.code, again.err) == (0, "")
