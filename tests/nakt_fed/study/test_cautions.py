"""What `nakt check` says of a study that can be run, but is hardly meant so."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nakt_fed
from nakt_fed.data.folders import read_pictures
from nakt_fed.data.listing import picture_files
from nakt_fed.errors import StudyError
from nakt_fed.study import cautions as module
from nakt_fed.study.cautions import cautions
from nakt_fed.study.inspect import inspect_study
from nakt_fed.study.summary import Seen, look_like_masks
from nakt_fed.study.trainable import CLUSTER, refuse_absent_gpus
from tests.command import nakt, study_file, write_teachers
from tests.nakt_fed.test_check import counted
from tests.tiny import UNET, tiny_study


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 2)
    for name in CLUSTER:
        monkeypatch.delenv(name, raising=False)


def told(folders: Path, more: dict[str, Any] | None = None, **tables: Any) -> list[str]:
    study = tiny_study(folders, **tables)
    return cautions(study, counted(study, **(more or {})))


def test_a_plain_study_needs_no_caution(folders: Path) -> None:
    assert told(folders) == []
    study = tiny_study(folders, fine_tune={"images": "few/images", "masks": "few/masks"})
    assert cautions(study, inspect_study(study)) == []


def test_more_threads_than_cores(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = {"student": {"workers": 4}, "resources": {"student_threads": 2}}
    [words] = told(folders, **many)
    assert words.startswith("student.workers = 4 times resources.student_threads = 2 are 8 threads, each worker with")
    alone = told(folders, resources={"student_threads": 3})
    assert alone == ["resources.student_threads is 3, but there are 2 cores; lower it, or set RAY_ADDRESS to a cluster"]
    assert told(folders, resources={"site_threads": 3}) == [
        "resources.site_threads is 3, but there are 2 cores; lower it"
    ]
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert told(folders, **many) == []


def test_a_batch_larger_than_the_set(folders: Path) -> None:
    """counted: 21 answers, 10 training pictures at each site. The default of 8 is no mistake where there are fewer."""
    assert told(folders, student={"batch_size": 21}) == []
    assert told(folders, student={"batch_size": 22}) == [
        "student.batch_size is 22, but there are 21 pictures to learn from, so an epoch has one step; lower it"
    ]
    site = {"name": "ann", "images": "ann/images", "masks": "ann/masks", "teacher": UNET | {"batch_size": 500}}
    [words] = told(folders, site=[site])
    assert words.startswith("site 'ann': teacher.batch_size is 500, but there are 10 pictures")
    few = {"images": "few/images", "masks": "few/masks"}
    assert told(folders, {"fine_tune": 4}, fine_tune=few) == []
    [words] = told(folders, {"fine_tune": 4}, fine_tune=few | {"batch_size": 9})
    assert words.startswith("fine_tune.batch_size is 9, but there are 4 pictures")


def test_a_run_that_nothing_is_tested_in(folders: Path) -> None:
    assert told(folders, {"tests": {}})[0].startswith("there is no test set, so the run will tell no Dice")
    assert told(folders, {"tests": {}}, round={"judge_student": True}) == []


@pytest.mark.parametrize("size", [32, 96])
@pytest.mark.parametrize("site", ["busi", "logiq5", "logiq7"])
def test_real_masks_look_like_masks_and_real_pictures_do_not(site: str, size: int) -> None:
    """Measured on 40 of each: 95 to 99 % of a mask's pixels are nearly black or white, of a picture's 0 to 9 % (nerves: 35 %)."""
    folder = Path(nakt_fed.__file__).parent / "demo" / "data" / site
    for name, expected in (("images", False), ("masks", True)):
        pictures = list(read_pictures(picture_files(folder / name)[:20], size))
        assert look_like_masks(pictures) is expected


def test_pictures_that_look_like_masks() -> None:
    mask = np.zeros((2, 32, 32), np.uint8)
    assert not look_like_masks(mask), "black pictures are black"
    mask[:, 4:9, 4:9] = 255
    assert look_like_masks(mask)
    assert not look_like_masks(np.random.default_rng(0).integers(0, 256, (2, 32, 32), np.uint8))


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("site 'ann'", "test set 'outside'", "the Dice there is of what was learned from"),
        ("transferal", "test set 'outside'", "the Dice there is of what was learned from"),
        ("test set 'outside'", "fine_tune", "the Dice there is of what was learned from"),
        ("site 'ann'", "site 'bob'", "is one folder given twice?"),
        ("site 'ann'", "transferal", "its teacher knows their masks"),
        ("test set 'outside'", "test set 'inside'", ""),
        ("site 'ann'", "fine_tune", ""),
    ],
)
def test_pictures_in_two_places(folders: Path, one: str, other: str, words: str) -> None:
    found = told(folders, {"seen": Seen({one: {"a", "b", "c"}, other: {"b", "c", "d"}})})
    assert len(found) == bool(words)
    assert all(line.startswith(f"{one} and {other} have 2 of the same pictures: ") and words in line for line in found)


def test_check_says_so(folders: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(folders, tmp_path / "study"))
    write_teachers(place)

    def change(raw: dict[str, Any]) -> None:
        raw["test"][0].update(images="ann/images", masks="ann/masks")
        raw["transferal"]["images"] = ["bob/masks"]

    outcome = nakt("check", study_file(place, change), "--no-time")
    assert outcome.code == 0
    assert [line.removeprefix("!          ")[:50] for line in outcome.out.splitlines() if line.startswith("!")] == [
        "transferal: its pictures look like masks, nearly a",
        "site 'ann' and test set 'outside' have 8 of the sa",
    ]


def test_gpus_that_are_not_there_are_refused(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = tiny_study(folders, student={"gpus_per_worker": 99, "workers": 2}).student
    with pytest.raises(StudyError, match=r"need 198 GPUs, this machine has \d+; lower gpus_per_worker"):
        refuse_absent_gpus(student)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    refuse_absent_gpus(student)


def test_a_workers_share_of_a_batch_is_what_is_tried(folders: Path) -> None:
    """One picture each: batch normalisation over a single value cannot be trained."""
    student = {"network": "deeplabv3plus", "encoder": "resnet18", "width": None, "workers": 4, "batch_size": 4}
    with pytest.raises(StudyError, match=r"student: network .* cannot work on batches of 1 at 32×32"):
        inspect_study(tiny_study(folders, student=student))
