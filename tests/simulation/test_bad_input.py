"""What a user may get wrong, each through `nakt run`: exit code, one message with its remedy, nothing lost."""

import fcntl
import json
import pickle
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nakt_fed.ledger import Ledger
from nakt_fed.service import TeacherService
from tests.command import Outcome, nakt, resume, run, study_file, write_teachers
from tests.disk import small_disk

Change = Callable[[dict[str, Any]], object]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plain_report")]

NETWORKS = """
import torch
from nakt_fed.networks.unet import UNet

class Nan(UNet):
    def forward(self, images):
        return super().forward(images) * float("nan")

class Half(UNet):
    def forward(self, images):
        return super().forward(images)[..., ::2, ::2]

class Broken(UNet):
    def forward(self, images):
        raise ZeroDivisionError("a user's own mistake")
"""


@pytest.fixture(scope="module")
def material(folders: Path) -> Path:
    """The session's pictures, with a checkpoint for each site."""
    write_teachers(folders)
    return folders


@pytest.fixture
def place(material: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(material, tmp_path / "study"))


@pytest.fixture
def own_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_networks.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)


def refused(outcome: Outcome, *words: str) -> None:
    """Exit code 1, one error that says all these words, no traceback."""
    assert outcome.code == 1
    assert outcome.err.count("error: ") == 1
    assert "Traceback" not in outcome.err + outcome.out
    for word in words:
        assert word in outcome.err, outcome.err


def at_once(outcome: Outcome, place: Path, *words: str) -> None:
    """Refused before anything was done: no run folder is left behind, and nobody is told to resume it."""
    refused(outcome, *words)
    assert "--resume" not in outcome.err
    assert not list((place / "runs").glob("*"))


def goes_on(outcome: Outcome, *arguments: str | Path) -> Path:
    """The run that was stopped can be resumed to its end; returns its folder."""
    assert "what was done is kept; when mended, go on with: nakt run " in outcome.err
    again = resume(outcome.run, *arguments)
    assert (again.code, again.err) == (0, "")
    assert (outcome.run / "results.json").exists()
    return outcome.run


def set_(path: str, value: Any) -> Change:
    """Put `value` at "site.0.name" and the like."""

    def change(raw: Any) -> None:
        *way, last = path.split(".")
        for key in way:
            raw = raw[int(key)] if key.isdigit() else raw[key]
        raw[last] = value

    return change


STUDIES: list[tuple[str, Change, list[str]]] = [
    ("misspelt key", set_("student.epoch", 3), ["student.epoch: unknown key", "did you mean 'epochs'?"]),
    (
        "misspelt in a list",
        set_("site.1.teacher.netwrk", "unet"),
        ["site[1].teacher.netwrk", "did you mean 'network'?"],
    ),
    ("unknown table", set_("colours", {}), ["colours: unknown key"]),
    ("two sites of one name", set_("site.1.name", "ann"), ["two sites are called 'ann'", "give each its own name"]),
    ("size", set_("study.image_size", 50), ["study.image_size", "multiple of 32", "nearest is 64", "got 50"]),
    ("views", set_("transferal.views", -1), ["transferal.views", "greater than or equal to 0", "got -1"]),
    ("views in words", set_("transferal.views", "many"), ["transferal.views", "whole number", "got 'many'"]),
    ("more sites than there are", set_("round.min_sites", 3), ["round.min_sites is 3", "has 2 sites", "lower it"]),
    ("missing folder", set_("site.0.images", "nowhere"), ["site 'ann'", "nowhere is not there", "check the path"]),
    ("empty folder", set_("transferal.images", ["empty"]), ["transferal: folder ", "empty has no picture"]),
    (
        "file for a folder",
        set_("site.0.images", "study.toml"),
        ["site 'ann'", "study.toml is a file", "give the folder"],
    ),
    ("missing test folder", set_("test.0.masks", "gone"), ["test set 'outside'", "gone is not there"]),
    (
        "other architecture",
        set_("site.0.teacher.width", 3),
        ["site 'ann'", "holds unet (width 2)", "expected unet (width 3)"],
    ),
    ("unknown network", set_("student.network", "unett"), ["student: unknown network 'unett'", "did you mean 'unet'"]),
    (
        "a network too deep for the size",
        set_("student", {"network": "smp:pan", "encoder": "resnet18"}),
        ["student: network smp:pan (encoder resnet18)", "at 32×32", "take another image_size"],
    ),
    (
        "batches too small for the network",
        set_("student", {"network": "deeplabv3plus", "encoder": "resnet18", "batch_size": 1}),
        ["student: network deeplabv3plus", "batches of 1 at 32×32", "take another image_size, batch_size or network"],
    ),
    (
        "a network of nobody",
        set_("student", {"network": "no_such_module:make"}),
        ["student: network 'no_such_module:make' cannot be imported", "PYTHONPATH"],
    ),
]


@pytest.mark.parametrize(("change", "words"), [case[1:] for case in STUDIES], ids=[case[0] for case in STUDIES])
def test_a_study_that_cannot_work(place: Path, change: Change, words: list[str]) -> None:
    (place / "empty").mkdir()
    at_once(run(study_file(place, change)), place, *words)


FILES: list[tuple[str, bytes | None, list[str]]] = [
    ("not there", None, ["bad.toml is not there", "check the path"]),
    ("syntax", b"[study]\nname = \n", ["bad.toml is not valid TOML", "line 2", "mend that line"]),
    ("no text", b"\xff\xfe", ["bad.toml is not valid TOML", "utf-8"]),
    ("empty", b"", ["study: missing; add it", "site: missing; add it"]),
    (
        "no tables",
        b"study = 3\nsite = 4\n",
        ["study: Input should be a table", "site: Input should be a list"],
    ),
]


@pytest.mark.parametrize(("content", "words"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_a_file_that_is_no_study(tmp_path: Path, content: bytes | None, words: list[str]) -> None:
    if content is not None:
        (tmp_path / "bad.toml").write_bytes(content)
    at_once(run(tmp_path / "bad.toml"), tmp_path, *words)


def test_a_folder_is_no_study(tmp_path: Path) -> None:
    at_once(run(tmp_path), tmp_path, "is a folder; give the study file (TOML)")


def spoil_truncated(place: Path) -> None:
    picture = place / "ann" / "images" / "0000.png"
    picture.write_bytes(picture.read_bytes()[:200])


def spoil_speck(place: Path) -> None:
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(place / "organ" / "images" / "speck.png")


def spoil_mask_size(place: Path) -> None:
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(place / "bob" / "masks" / "0003.png")


def spoil_twins(place: Path) -> None:
    shutil.copy(place / "organ" / "images" / "0002.png", place / "organ" / "images" / "copy.png")


def spoil_checkpoint_cut(place: Path) -> None:
    path = place / "bob.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def spoil_checkpoint_pickle(place: Path) -> None:
    (place / "bob.safetensors").write_bytes(pickle.dumps({"weights": [1, 2]}))


DATA: list[tuple[str, Callable[[Path], object], list[str]]] = [
    (
        "picture without mask",
        lambda p: (p / "ann/masks/0001.png").unlink(),
        ["site 'ann'", "0001.png", "1 of 8 pictures"],
    ),
    ("mask of another size", spoil_mask_size, ["site 'bob'", "0003.png has 30×20 pixels", "32×32", "export the mask"]),
    (
        "truncated picture",
        spoil_truncated,
        ["site 'ann'", "0000.png cannot be read", "replace it by an undamaged copy"],
    ),
    ("1×1 picture", spoil_speck, ["transferal", "speck.png has 1×1 pixels", "remove it"]),
    ("duplicate pictures", spoil_twins, ["copy.png has the pixels of", "0002.png", 'transferal.duplicates = "drop"']),
    ("truncated checkpoint", spoil_checkpoint_cut, ["site 'bob'", "bob.safetensors is cut off", "copy it again"]),
    ("pickle", spoil_checkpoint_pickle, ["site 'bob'", "bob.safetensors is a pickle", "run any code", "convert it"]),
    (
        "missing checkpoint",
        lambda p: (p / "ann.safetensors").unlink(),
        ["site 'ann'", "ann.safetensors cannot be read"],
    ),
]


@pytest.mark.parametrize(("spoil", "words"), [case[1:] for case in DATA], ids=[case[0] for case in DATA])
def test_data_that_cannot_be_used(place: Path, spoil: Callable[[Path], object], words: list[str]) -> None:
    study = study_file(place)
    spoil(place)
    at_once(run(study), place, *words)
    checked = nakt("check", study, "--no-time")
    refused(checked, *words)


def test_duplicates_may_be_dropped(place: Path) -> None:
    spoil_twins(place)
    outcome = run(study_file(place, set_("transferal.duplicates", "drop")))
    assert outcome.code == 0
    assert "14 of 14 transferal pictures kept" in outcome.out


def odd(name: str, **more: Any) -> Change:
    """Bob's network is one of `NETWORKS`, trained on his pictures; `more` goes to [round]."""

    def change(raw: dict[str, Any]) -> None:
        raw["site"][1]["teacher"] = {"network": f"odd_networks:{name}", "width": 2, "epochs": 1}
        raw["round"].update(more)

    return change


@pytest.mark.usefixtures("own_networks")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Nan", ["answers NaN or infinity", "check its weights"]),
        ("Half", ["answers (2, 1, 16, 16)", "for pictures (2, 1, 32, 32)"]),
        ("Broken", ["a user's own mistake"]),
    ],
)
def test_a_network_that_answers_nonsense(place: Path, name: str, words: list[str]) -> None:
    at_once(run(study_file(place, odd(name))), place, "site 'bob': network odd_networks:" + name, *words)

    study = study_file(place, odd(name, min_sites=1))
    outcome = run(study)
    assert (outcome.code, outcome.err) == (0, "")
    assert "! site bob is set aside (teacher): " in outcome.out
    assert "! without site bob: " in outcome.out
    assert [site["name"] for site in json.loads((outcome.run / "results.json").read_text())["sites"]] == ["ann"]
    assert "will be set aside: site 'bob'" in nakt("check", study, "--no-time").out


ANSWERS: list[tuple[str, Callable[[Any], Any], str]] = [
    (
        "logits",
        lambda pictures: pictures / 10 - 12.0,
        "probabilities in 0..1 are expected; does it return logits without sigmoid?",
    ),
    ("NaN", lambda pictures: np.full(pictures.shape, np.nan), "holds NaN or infinity"),
    ("shape", lambda pictures: np.zeros((len(pictures), 16, 16)), "expected one probability per pixel"),
]


@pytest.mark.parametrize(("answer", "words"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS])
def test_a_teacher_that_answers_no_probabilities(
    place: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[[Any], Any], words: str
) -> None:
    good = TeacherService.teacher.func  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        teacher = property(lambda site: answer if site.site.name == "bob" else good(site))
        patch.setattr(TeacherService, "teacher", teacher)
        outcome = run(study_file(place))
        refused(outcome, "1 of 2 sites are left", "bob: bad_answer", "finite probabilities in 0..1", words)
        without = run(study_file(place, set_("round.min_sites", 1)))
    assert (without.code, without.err) == (0, "")
    assert words in without.out
    assert "! site bob is set aside (transferal): bad_answer" in without.out

    folder = goes_on(outcome)  # bob's teacher is mended
    assert len([line for line in masks_asked(folder) if line["site"] == "ann" and line["outcome"] == "ok"]) == 4 + 1


def masks_asked(folder: Path) -> list[dict[str, Any]]:
    return [line for line in Ledger(folder / "ledger.jsonl").lines() if line["kind"] == "masks"]


def test_everything_is_filtered_out_and_a_mended_filter_goes_on(place: Path) -> None:
    study = study_file(place, set_("filter.min_target_pixels", 384 * 384))
    outcome = run(study)
    refused(
        outcome, "only 0 of 14 transferal pictures", "filter.min_kept = 2", "remedies: ", f"nakt run {study} --resume"
    )
    asked = masks_asked(outcome.run)

    still = resume(outcome.run)
    refused(still, "only 0 of 14")
    study_file(place)  # the filter is mended in the user's file
    folder = goes_on(outcome, study)
    transferal = [line for line in masks_asked(folder) if line["set"] == "transferal"]
    assert transferal == [line for line in asked if line["set"] == "transferal"], "no site was asked again"
    assert json.loads((folder / "results.json").read_text())["transferal"]["kept"] == 14


@pytest.fixture(scope="module")
def student(material: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a run that nothing has disturbed."""
    place = Path(shutil.copytree(material, tmp_path_factory.mktemp("whole") / "study"))
    return (run(study_file(place)).run / "student.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("free", "where"), [(60, "pictures"), (140, "a site's pictures"), (220, "masks"), (600, "the student")]
)
def test_a_full_disk(place: Path, tmp_path: Path, student: bytes, free: int, where: str) -> None:
    """`free` kB are left when the run begins; `where` it stops with as many."""
    with small_disk(tmp_path / "disk", 4) as disk:
        disk.fill(leave=free * 1024)
        outcome = nakt("run", study_file(place), "--engine", "in-process", "--runs", disk.folder)
        refused(outcome, "disk is full", "free some space", f"--resume {outcome.run}")
        disk.free()
        assert (goes_on(outcome) / "student.safetensors").read_bytes() == student, where


def test_a_file_that_may_not_grow(place: Path, student: bytes) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        outcome = run(study_file(place))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    refused(outcome, "the disk is full", "File too large", "free some space")
    assert (goes_on(outcome) / "student.safetensors").read_bytes() == student


def test_a_run_of_another_study_is_not_gone_on_with(place: Path) -> None:
    study = study_file(place)
    folder = run(study).run
    before = (folder / "study.toml").read_bytes()
    other = study_file(place, set_("transferal.views", 2), "other.toml")
    refused(resume(folder, other), "was begun with another study: transferal.views was 1, now 2", "without --resume")
    other = study_file(place, set_("filter.max_entropy", 2.0), "other.toml")
    refused(resume(folder, other), "filter.max_entropy was 8.0, now 2.0")
    assert (folder / "study.toml").read_bytes() == before


def test_a_fine_tuning_may_be_added_but_not_changed(place: Path) -> None:
    folder = run(study_file(place)).run
    tuned = {"images": "few/images", "masks": "few/masks", "epochs": 1, "batch_size": 2}
    assert resume(folder, study_file(place, set_("fine_tune", tuned))).code == 0
    assert (folder / "fine_tune" / "student.safetensors").exists()
    changed = study_file(place, set_("fine_tune", tuned | {"epochs": 2}))
    refused(resume(folder, changed), "fine_tune.epochs was 1, now 2")


@pytest.mark.parametrize("own", [False, True], ids=["empty", "the user's"])
def test_a_folder_that_is_no_run(place: Path, own: bool) -> None:
    study = study_file(place)
    before = study.read_bytes()
    refused(resume(place if own else place / "organ", study), "is not the folder of a run", "that `nakt run` printed")
    assert study.read_bytes() == before


def test_a_run_that_another_process_works_in(place: Path) -> None:
    study = study_file(place)
    folder = run(study).run
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for arguments in ([], [study]):
            outcome = resume(folder, *arguments)
            refused(outcome, f"{folder} is being worked on by another process", "wait for it or stop it")
            assert "what was done" not in outcome.err
    assert resume(folder).code == 0


def test_blanks_and_foreign_letters_in_every_path(material: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(material, tmp_path / "Größe & 大小 (1)"))
    (place / "organ").rename(place / "Schild drüse")
    outcome = run(study_file(place, set_("transferal.images", ["Schild drüse/images"]), "meine Studie.toml"))
    assert (outcome.code, outcome.err) == (0, "")
    assert (outcome.run / "report.html").exists()
    assert resume(outcome.run, place / "meine Studie.toml").code == 0
    stopped = run(study_file(place, set_("filter.min_target_pixels", 384 * 384), "meine Studie.toml"))
    assert stopped.code == 1
