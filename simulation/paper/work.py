"""What a cell of the paper's experiments does on its worker: train a teacher, train or fine-tune a student; `pseudo.py`: masks."""

from pathlib import Path
from typing import Any

import torch

from nakt_fed.checkpoint import is_saved, load_checkpoint
from nakt_fed.data.folders import PictureSet, load_annotated
from nakt_fed.data.split import split
from nakt_fed.paper.scale import FEW
from nakt_fed.predict import soft_masks
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.seeds import draw
from nakt_fed.site_data import private_data
from nakt_fed.store import PseudoSet
from nakt_fed.student import StudentJob, train_student
from nakt_fed.study.learners import TeacherSpec
from nakt_fed.study.pictures import SiteSpec
from nakt_fed.teacher import train_teacher
from simulation.cells import Task

from .pseudo import ALL, KEPT, TEACHER, kept, masks, score

STUDENT = "student.safetensors"


def work(task: Task) -> dict[str, Any]:
    """Plain JSON: at least "dice" {test set: {mean, std, n, per_image}}, None where the student had too few pictures."""
    torch.set_num_threads(task.threads)
    return {"teacher": teacher, "masks": masks, "kept": kept, "student": student, "tuned": tuned}[task.what["make"]](
        task
    )


def teacher(task: Task) -> dict[str, Any]:
    """A network trained on the teacher-training set, tested on every test set."""
    what, pictures = task.what, task.where["train"]
    spec = TeacherSpec(**what["network"], **what["recipe"])
    site = SiteSpec(name=what["network"]["network"], images=pictures["images"], masks=pictures["masks"], teacher=spec)
    data = private_data(site, what["size"], what["seed"])
    if not is_saved(task.place / TEACHER):
        train_teacher(site, data, task.place, image_size=what["size"], seed=what["seed"])
    return {"dice": _on_tests(task.place / TEACHER, task), "pictures": len(data.train)}


def student(task: Task) -> dict[str, Any]:
    """Line 11: a student of the pseudo-annotated set, with or without exclusion."""
    found = task.needs["pictures"]
    count = found.result["pictures"]
    if not found.result.get("enough", True):
        return {"dice": None, "pictures": count}
    _learn(task, found.place / (KEPT if task.what["exclude"] else ALL), None)
    return {"dice": _on_tests(task.place / STUDENT, task), "pictures": count}


def tuned(task: Task) -> dict[str, Any]:
    """Algorithm 2, line 12: a student, a teacher or a fresh network on a few annotated pictures, tested on the rest."""
    start = task.needs.get("start")
    if start is not None and start.result["dice"] is None:
        return {"dice": None, "pictures": 0}
    target, folders, size = task.what["target"], task.where["target"], task.what["size"]
    pictures = load_annotated(Path(folders["images"]), Path(folders["masks"]), size)
    rest, few = split(pictures.ids, FEW / len(pictures) if len(pictures) > FEW else 0.5, draw(task.what["seed"], "few"))
    place = task.place / "few.zarr"
    _write(pictures.subset(few), place, size)
    files = [start.place / name for name in (STUDENT, TEACHER)] if start else []
    _learn(task, place, next((path for path in files if is_saved(path)), None))
    return {"dice": {target: _test(task.place / STUDENT, task, pictures.subset(rest))}, "pictures": len(few)}


def _write(pictures: PictureSet, place: Path, size: int) -> None:
    out = PseudoSet(place, size, len(pictures), pictures.ids)
    out.add(pictures.images, pictures.masks)
    out.close("few")


def _learn(task: Task, pseudo: Path, init: Path | None) -> None:
    if is_saved(task.place / STUDENT):
        return
    what = task.what
    train_student(
        StudentJob(
            who="student",
            pseudo=str(pseudo),
            out=task.place,
            events=task.place / "events.jsonl",
            network=NetworkSpec(**what["network"]),
            recipe=Recipe(**what["recipe"]),
            seed=what["seed"],
            threads=task.threads,
            init=init,
        )
    )


def _on_tests(weights: Path, task: Task) -> dict[str, Any]:
    found = {}
    for name, folders in task.where["tests"].items():
        pictures = load_annotated(Path(folders["images"]), Path(folders["masks"]), task.what["size"])
        found[name] = _test(weights, task, pictures)
    return found


def _test(weights: Path, task: Task, pictures: PictureSet) -> dict[str, Any]:
    model, _ = load_checkpoint(weights, expect=NetworkSpec(**task.what["network"]))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return score(soft_masks(model, pictures.images), pictures.masks, pictures.ids)
