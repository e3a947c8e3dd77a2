"""The work of a sweep, as cells that any process can do: fuse once per weighting, then train and measure a student."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import numpy as np
import torch

from nakt_fed.checkpoint import is_saved, load_checkpoint
from nakt_fed.errors import StudyError
from nakt_fed.filtering import Verdict, demand_enough, read_filter
from nakt_fed.predict import soft_masks
from nakt_fed.replay.fuse import fuse_again
from nakt_fed.replay.pictures import filtered, write_pseudo_set
from nakt_fed.replay.stored import Masks, StoredRun
from nakt_fed.replay.sweep_file import Setting, Sweep, Variant
from nakt_fed.shared_set import SharedSet
from nakt_fed.store import open_group
from nakt_fed.student import StudentJob, train_student
from nakt_fed.study.learners import StudentSpec
from nakt_fed.study.tables import FilterSpec, FusionSpec
from nakt_fed.weightings import find


class Task(Protocol):
    """What the runner gives to a cell (`simulation.cells.Task`); `needs` are finished cells with their `place` and `result`."""

    @property
    def what(self) -> dict[str, Any]: ...
    @property
    def where(self) -> dict[str, Any]: ...
    @property
    def place(self) -> Path: ...
    @property
    def needs(self) -> Mapping[str, Any]: ...
    @property
    def threads(self) -> int: ...


def fuse_what(run: StoredRun, fusion: FusionSpec) -> dict[str, Any]:
    """All that decides the fused masks of a run."""
    return {
        "make": "pseudo masks",
        "fusion": fusion.model_dump(mode="json"),
        "code": find(fusion.weighting).code_sha256(),
        "manifest": run.transferal.manifest.sha256,
        "tests": {name: shared.manifest.sha256 for name, shared in run.tests.items()},
        "sites": [run.counted, run.active],
        **({"class": run.label} if run.label else {}),
    }


def row_what(run: StoredRun, setting: Setting, sweep: Sweep) -> dict[str, Any]:
    """All that decides a row, beside its fused masks."""
    kept = {"filter": setting.filter.model_dump(mode="json"), "seed": setting.seed}
    if setting.student.name == "none":
        return {"make": "row", "student": None, **kept}
    return {
        "make": "row",
        "student": setting.student.spec(run.study).model_dump(mode="json"),
        "variant": setting.student.model_dump(mode="json", exclude={"settings"}),
        "equal_steps": sweep.equal_steps,
        "threads": sweep.threads,
        **kept,
    }


def work(task: Task) -> dict[str, Any]:
    """One cell. Returns {"per_image", "kept", …}, of a student also its "agreement" with the pseudo masks.

    Raises:
        StudyError, FilterError, RunError: the cell cannot be made; its message says why.
    """
    run = StoredRun(Path(task.where["run"]), task.where.get("class", ""))
    if task.what["make"] == "pseudo masks":
        fuse_again(run, FusionSpec.model_validate(task.what["fusion"]), task.place)
        return dict(json.loads((task.place / "fusion.json").read_text(encoding="utf-8")))
    fused, spec = task.needs["fused"], FilterSpec.model_validate(task.what["filter"])
    verdicts = filtered(read_filter(fused.place / "filter.csv"), spec, run.study.study.image_size)
    told = {"kept": sum(verdict.kept for verdict in verdicts)}
    if task.what["student"] is None:
        return {**told, "per_image": fused.result["per_image"]}
    if spec.enabled:
        demand_enough(verdicts, spec)
    student = StudentSpec.model_validate(task.what["student"])
    stacks = open_group(fused.place / "masks.zarr")
    if not is_saved(task.place / "student.safetensors"):
        _train(task, student, _epochs(run, task, student, stacks, verdicts))
    return {**told, **_student_dice(run, student, task, fused.result["fusion"]["annotated"], stacks["tests"])}


def _epochs(run: StoredRun, task: Task, student: StudentSpec, stacks: Any, verdicts: list[Verdict]) -> int:
    """Leaves the student's pictures in pseudo.zarr; with `equal_steps` fewer pictures are seen more often, and those of one
    class of several as often as makes it the steps of the run's own student."""
    variant, place = Variant.model_validate({**task.what["variant"], "settings": {}}), task.place / "pseudo.zarr"
    pictures = write_pseudo_set(run, stacks["pseudo"], verdicts, variant, student.temperature, place)
    if pictures < 2:
        raise StudyError(f"student {variant.name!r} would learn from {pictures} pictures; give it originals or views")
    everything = run.taught if run.label else sum(verdict.kept for verdict in verdicts)
    return max(1, round(student.epochs * everything / pictures)) if task.what["equal_steps"] else student.epochs


def _train(task: Task, student: StudentSpec, epochs: int) -> None:
    """Afterwards only the weights and the history stay: the pictures are in the run."""
    train_student(
        StudentJob(
            who="student",
            pseudo=str(task.place / "pseudo.zarr"),
            out=task.place,
            events=task.place / "events.jsonl",
            network=student.spec(),
            recipe=student.recipe().model_copy(update={"epochs": epochs}),
            seed=task.what["seed"],
            threads=task.threads,
            calibrate=student.calibrate,
        )
    )
    shutil.rmtree(task.place / "pseudo.zarr")
    for name in ("last.pt", "best.pt"):
        (task.place / name).unlink(missing_ok=True)


def _student_dice(
    run: StoredRun, student: StudentSpec, task: Task, leave_out: str | None, fused: Any
) -> dict[str, Any]:
    """Against the truth, per picture; and against the pseudo masks of the test pictures, which the student was to learn."""
    torch.set_num_threads(task.threads)
    model, _ = load_checkpoint(task.place / "student.safetensors", expect=student.spec())
    answers = {shared.name: soft_masks(model, np.asarray(shared.images[:])) for shared in run.tests.values()}

    def answer(shared: SharedSet, number: int) -> Masks:
        rows = shared.masks.chunks[number]
        return answers[shared.name][rows.start : rows.stop]

    def pseudo(shared: SharedSet) -> Masks:
        return np.asarray(fused[shared.name.removeprefix("test-")][:])

    agreement = run.measured(answer, leave_out, pseudo)
    mean = round(fmean(agreement.values()), 6) if agreement else None
    return {"per_image": run.measured(answer, leave_out), "agreement": mean}
