import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nakt_fed import run_tests
from nakt_fed.checkpoint import load_checkpoint
from nakt_fed.data.folders import load_annotated
from nakt_fed.ledger import Ledger
from nakt_fed.predict import soft_masks
from nakt_fed.results import _ktc
from nakt_fed.store import open_group
from tests.reference.fusion import integer_mean
from tests.reference.metrics import set_dice
from tests.tiny import SITES, whole_study

MODELS = {
    "teacher:ann": "ann",
    "teacher:bob": "bob",
    "ensemble": "ensemble",
    "student": "student",
    "student+fine_tune": "student+fine_tune",
}


@pytest.fixture(scope="module")
def results(whole: Path) -> dict[str, Any]:
    return dict(json.loads((whole / "results.json").read_text(encoding="utf-8")))


def answers(whole: Path, name: str) -> np.ndarray:
    return np.asarray(open_group(whole / "tests" / "outside" / "masks.zarr")[f"masks/{name}"][:])  # type: ignore[index]


def test_top_level(results: dict[str, Any]) -> None:
    """DESIGN §6, and what the project adds to it."""
    design = {"study", "seed", "sites", "transferal", "weights", "dice", "ktc", "bytes", "seconds"}
    ours = {
        "version",
        "at_sites",
        "personalised",
        "set_aside",
        "answered",
        "suspects",
        "filter",
        "fedavg_bytes",
        "overlaps",
        "test_rule",
        "settings",
        "environment",
    }
    assert set(results) == design | ours
    assert (results["version"], results["study"], results["seed"]) == (1, "tiny", 3)
    assert set(results["dice"]) == set(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_dice_is_that_of_the_stored_masks(whole: Path, folders: Path, results: dict[str, Any], model: str) -> None:
    """Counted with sets of pixels, at threshold 0.5, against the ground truth as it lies in the user's folder."""
    truth = load_annotated(folders / "outside" / "images", folders / "outside" / "masks", 32)
    row = results["dice"][model]["outside"]
    expected = [
        set_dice(mask >= 128, true > 0) for mask, true in zip(answers(whole, MODELS[model]), truth.masks, strict=True)
    ]
    assert list(row["per_image"]) == truth.ids
    assert list(row["per_image"].values()) == pytest.approx(expected, abs=1e-6)
    assert row["n"] == len(expected) == 3
    assert row["mean"] == pytest.approx(sum(expected) / 3)
    assert row["std"] == pytest.approx((sum((value - row["mean"]) ** 2 for value in expected) / 3) ** 0.5)


def test_a_target_begins_at_128(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """127 / 255 is less than one half, 128 / 255 is more."""
    study = whole_study(folders)
    tests = run_tests.test_sets(study, tmp_path)
    truth = tests["outside"].truth
    answers = {"at the edge": np.where(truth, 128, 127), "below": np.where(truth, 127, 126)}
    monkeypatch.setattr(run_tests, "_answers", lambda *_: answers.items())
    table = run_tests.all_dice(study, tmp_path, tests, [], dict)
    assert table["at the edge"]["outside"].tolist() == [1, 1, 1]
    assert table["below"]["outside"].tolist() == [0, 0, 0]


def test_ensemble_is_the_weighted_mean_of_the_teachers(whole: Path, results: dict[str, Any]) -> None:
    assert results["weights"] == {"ann": 0.5, "bob": 0.5}
    expected = integer_mean({site: answers(whole, site) for site in SITES}, {"ann": 32768, "bob": 32768})
    np.testing.assert_array_equal(answers(whole, "ensemble"), expected)


@pytest.mark.parametrize(("name", "place"), [("student", "."), ("student+fine_tune", "fine_tune")])
def test_students_masks_are_those_of_the_saved_weights(whole: Path, folders: Path, name: str, place: str) -> None:
    model, info = load_checkpoint(whole / place / "student.safetensors")
    assert info["provenance"]["role"] == name
    truth = load_annotated(folders / "outside" / "images", folders / "outside" / "masks", 32)
    np.testing.assert_array_equal(answers(whole, name), soft_masks(model, truth.images))


def test_teachers_cards(whole: Path, results: dict[str, Any]) -> None:
    """8 pictures each: a validation share of 0.1 holds 1 out. 2 → 4 → … channels: the size is counted from the file."""
    for site, card in zip(SITES, results["sites"], strict=True):
        model, info = load_checkpoint(whole / "sites" / site / "teacher.safetensors")
        with (whole / "sites" / site / "history.csv").open() as file:
            last = list(csv.DictReader(file))[-1]
        assert card == {
            "name": site,
            "network": "unet",
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "n_images": 7,
            "validation_dice": pytest.approx(float(last["validation_dice"])),
            "binary": False,
        }
        assert info["provenance"]["trained_on"] == site


def test_transferal_counts_are_those_of_the_filter_file(whole: Path, results: dict[str, Any]) -> None:
    with (whole / "filter.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert results["transferal"] == {
        "images": len(rows),
        "originals": 7,
        "views": 7,
        "kept": sum(row["kept"] == "1" for row in rows),
        "excluded": {rule: sum(row["rule"] == rule for row in rows) for rule in ("few_targets", "high_entropy")},
    }
    assert results["filter"] == {"enabled": True, "alpha": 0.0, "beta": 8.0, "image_size": 32}
    assert results["overlaps"] == {"ann": 0, "bob": 0}
    assert results["set_aside"] == {}
    assert results["answered"] == {"ann": 14, "bob": 14}


def test_bytes_are_the_sums_of_the_ledger(whole: Path, results: dict[str, Any]) -> None:
    """14 transferal and 3 test masks of each of the two sites."""
    lines = Ledger(whole / "ledger.jsonl").lines()
    masks = [line for line in lines if line["kind"] == "masks"]
    assert sum(line["pictures"] for line in masks) == 2 * (14 + 3)
    assert results["bytes"] == {
        "out": sum(line["bytes_out"] for line in lines),
        "back": sum(line["bytes_back"] for line in masks),
        "per_mask": pytest.approx(sum(line["bytes_back"] for line in masks) / 34),
        "transferal_back": sum(line["bytes_back"] for line in masks if line["set"] == "transferal"),
    }


def test_seconds_are_those_of_the_stages(whole: Path, results: dict[str, Any]) -> None:
    events = [json.loads(line) for line in (whole / "events.jsonl").read_text().splitlines()]
    done = {
        event["name"]: event["seconds"] for event in events if event["kind"] == "stage" and event["state"] == "done"
    }
    assert set(done) == {"teachers", "pictures", "masks", "fusion", "student", "fine_tune", "evaluation", "report"}
    assert results["seconds"] == {name: pytest.approx(value) for name, value in done.items() if name != "report"}


def test_fedavg_would_have_moved(whole: Path, results: dict[str, Any]) -> None:
    """10 rounds, there and back, 4 bytes for each number of the student's state."""
    model, _ = load_checkpoint(whole / "student.safetensors")
    numbers = sum(value.numel() for value in model.state_dict().values())
    assert results["fedavg_bytes"]["per_site"] == 10 * 2 * 4 * numbers
    assert str(numbers) in results["fedavg_bytes"]["formula"]


def test_settings_are_the_resolved_study(folders: Path, results: dict[str, Any]) -> None:
    assert results["settings"] == whole_study(folders).model_dump(mode="json")
    assert results["environment"]["torch"]


def test_ktc() -> None:
    """Means: teachers 0.5 and 0.8, ensemble 1.0, student 0.6: 100 · 0.6 / 0.8 and 100 · 0.6 / 1. Fine-tuning is no transfer."""
    table = {
        "teacher:ann": {"a": np.array([0.4, 0.6]), "b": np.array([0.0])},
        "teacher:bob": {"a": np.array([0.8, 0.8]), "b": np.array([0.0])},
        "ensemble": {"a": np.array([1.0, 1.0]), "b": np.array([0.5])},
        "student": {"a": np.array([0.2, 1.0]), "b": np.array([0.5])},
        "student+fine_tune": {"a": np.array([0.9, 0.9]), "b": np.array([1.0])},
    }
    told = _ktc(table)
    assert told["a"] == {"best_teacher": pytest.approx(75), "ensemble": pytest.approx(60)}
    assert told["b"] == {"best_teacher": None, "ensemble": pytest.approx(100)}


def test_ktc_of_the_run(results: dict[str, Any]) -> None:
    mean = {model: tests["outside"]["mean"] for model, tests in results["dice"].items()}
    teacher = max(mean["teacher:ann"], mean["teacher:bob"])
    assert results["ktc"]["outside"]["best_teacher"] == (
        pytest.approx(100 * mean["student"] / teacher) if teacher else None
    )
