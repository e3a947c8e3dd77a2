from pathlib import Path
from typing import Any

import pytest

from nakt_fed.errors import RunError
from nakt_fed.locks import only_one
from nakt_fed.resume import is_run, refuse_other_study, resume_command_of, write_study
from nakt_fed.study import Study
from nakt_fed.study.file import load_study
from tests.tiny import UNET, tiny_study, whole_study

BASE = Path("/studies")


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


def site(name: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "images": f"{name}/images", "masks": f"{name}/masks", "teacher": UNET, **keys}


ASKED: dict[str, dict[str, Any]] = {
    "study.seed": {"study": {"seed": 4}},
    "study.image_size": {"study": {"image_size": 64}},
    "site[1].teacher.epochs": {"site": [site("ann"), site("bob", teacher={**UNET, "epochs": 9})]},
    "site": {"site": [site("ann")]},
    "transferal.views": {"transferal": {"views": 3}},
    "transferal.images[0]": {"transferal": {"images": ["/elsewhere"]}},
    "test": {"test": []},
    "round.chunk_mb": {"round": {"chunk_mb": 9}},
    "round.near": {"round": {"near": 1}},
}
LEARNED: dict[str, dict[str, Any]] = {
    "filter.max_entropy": {"filter": {"max_entropy": 7.0}},
    "fusion.weighting": {"fusion": {"weighting": "n_images"}},
    "student.epochs": {"student": {**UNET, "epochs": 9}},
}
TUNED: dict[str, dict[str, Any]] = {
    "fine_tune.epochs": {"fine_tune": {"images": "few/images", "masks": "few/masks", "epochs": 9}}
}
ALWAYS = [
    {"round": {"site_timeout": 5.0}},
    {"round": {"in_flight": 7}},
    {"round": {"min_sites": 1}},
    {"resources": {"sites_at_once": 7}},
]


def refused(changes: dict[str, Any], folder: Path, key: str) -> None:
    with pytest.raises(RunError) as caught:
        refuse_other_study(whole_study(BASE), whole_study(BASE, **merged(changes)), folder)
    assert f"was begun with another study: {key} was " in str(caught.value)
    assert "start a new run without --resume" in str(caught.value)


def allowed(changes: dict[str, Any], folder: Path) -> None:
    refuse_other_study(whole_study(BASE), whole_study(BASE, **merged(changes)), folder)


def merged(changes: dict[str, Any]) -> dict[str, Any]:
    """`whole_study` replaces these tables as a whole; keep what it says of them."""
    own = {"transferal": {"views": 1}, "fine_tune": whole_study(BASE).fine_tune.model_dump(mode="json")}  # type: ignore[union-attr]
    return {name: {**own[name], **table} if name in own else table for name, table in changes.items()}


def test_the_same_study_goes_on(tmp_path: Path) -> None:
    allowed({}, touched(tmp_path, "last.pt", "student.safetensors", "fine_tune/last.pt"))


@pytest.mark.parametrize("key", ASKED)
def test_what_the_sites_were_asked_never_changes(tmp_path: Path, key: str) -> None:
    refused(ASKED[key], tmp_path, key)


@pytest.mark.parametrize("key", LEARNED)
@pytest.mark.parametrize("begun", ["last.pt", "student.safetensors"])
def test_what_the_student_learns_may_change_until_it_has_begun(tmp_path: Path, key: str, begun: str) -> None:
    allowed(LEARNED[key], tmp_path)
    refused(LEARNED[key], touched(tmp_path, begun), key)


@pytest.mark.parametrize("begun", ["fine_tune/last.pt", "fine_tune/student.safetensors"])
def test_fine_tuning_may_change_until_it_has_begun(tmp_path: Path, begun: str) -> None:
    allowed(TUNED["fine_tune.epochs"], touched(tmp_path, "last.pt", "student.safetensors"))
    refused(TUNED["fine_tune.epochs"], touched(tmp_path, begun), "fine_tune.epochs")


@pytest.mark.parametrize("changes", ALWAYS)
def test_how_long_to_wait_may_always_change(tmp_path: Path, changes: dict[str, Any]) -> None:
    allowed(changes, touched(tmp_path, "last.pt", "student.safetensors", "fine_tune/last.pt"))


def test_the_first_difference_tells_both_values(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"study.seed was 3, now 4"):
        refuse_other_study(tiny_study(BASE), tiny_study(BASE, study={"seed": 4}), tmp_path)


def test_only_one_works_in_a_run_folder(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(RunError, match="being worked on by another process"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_study_file_is_written_whole(tmp_path: Path) -> None:
    study: Study = tiny_study(tmp_path)
    write_study(study, tmp_path)
    assert load_study(tmp_path / "study.toml") == study
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


def test_a_folder_is_a_run_once_a_run_was_begun_in_it(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    write_study(tiny_study(tmp_path), tmp_path)
    assert not is_run(tmp_path), "a user's own folder with a study in it"
    assert is_run(touched(tmp_path, "events.jsonl"))


def test_how_to_go_on_is_said_even_of_a_damaged_study(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("= damaged")
    assert resume_command_of(tmp_path) == f"nakt run --resume {tmp_path}"
