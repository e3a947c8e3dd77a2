"""A bad site in a whole run: it is named with the evidence, the run goes on, and `robust` does without it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nakt_fed.resume import write_study
from nakt_fed.run import run_study
from nakt_fed.store import open_group
from nakt_fed.student import train_student
from simulation.bad_sites import BadSites
from tests.nakt_fed.test_schemas import validator
from tests.tiny import SIZE, UNET, bright, hospitals, tiny_study

SITES = [
    {"name": name, "images": f"{name}/images", "masks": f"{name}/masks", "teacher": UNET}
    for name in ("ann", "bob", "few")
]


def cautious(pictures: np.ndarray) -> np.ndarray:
    return np.asarray(bright(pictures) ** 2)


def carried_out(
    folders: Path, folder: Path, weighting: str, attacks: dict[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """results.json and the warnings of a run with three sites that see nearly the same."""
    folder.mkdir()
    study = tiny_study(folders, site=SITES, transferal={"views": 1}, fusion={"weighting": weighting})
    write_study(study, folder)
    sites = hospitals(study, folder, {"bob": cautious, "few": bright})
    run_study(study, folder, BadSites(sites, attacks, SIZE), train_student)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    warnings = [event["message"] for event in events if event["kind"] == "warning"]
    return json.loads((folder / "results.json").read_text()), warnings


def pseudo(folder: Path) -> np.ndarray:
    return np.asarray(open_group(folder / "masks.zarr")["pseudo"][:])  # type: ignore[index]


def test_nobody_is_named_where_nobody_is_bad(folders: Path, tmp_path: Path, plain_report: None) -> None:
    results, warnings = carried_out(folders, tmp_path / "run", "uniform", {})
    assert (results["suspects"], warnings) == ({}, [])
    assert json.loads((tmp_path / "run" / "suspects.json").read_text())["trust"] == {"ann": 1, "bob": 1, "few": 1}


@pytest.mark.parametrize(("weighting", "words"), [("uniform", "it still counts"), ("robust", "it counts nothing")])
def test_a_bad_site_is_named_and_the_run_goes_on(
    folders: Path, tmp_path: Path, plain_report: None, weighting: str, words: str
) -> None:
    results, [warning] = carried_out(folders, tmp_path / "run", weighting, {"few": "inverted"})
    assert list(results["suspects"]) == ["few"]
    validator("suspects").validate(json.loads((tmp_path / "run" / "suspects.json").read_text()))
    assert warning.startswith(f"site few is suspected ({words}")
    assert "its masks correlate by -" in warning
    assert (tmp_path / "run" / "student.safetensors").exists()


def test_robust_is_then_the_mean_of_the_others(folders: Path, tmp_path: Path, plain_report: None) -> None:
    carried_out(folders, tmp_path / "run", "robust", {"few": "noise"})
    answers = open_group(tmp_path / "run" / "masks.zarr")
    good = [np.asarray(answers[f"masks/{site}"][:], int) for site in ("ann", "bob")]  # type: ignore[index]
    assert np.abs(pseudo(tmp_path / "run") - (good[0] + good[1]) / 2).max() <= 0.5
