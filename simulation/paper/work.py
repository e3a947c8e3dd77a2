"""What a cell of the paper's experiments does on its worker: train a teacher, ask for masks, train or fine-tune a student."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from nakt_fed.annotation import Annotation
from nakt_fed.answered import sites_of_chunks
from nakt_fed.checkpoint import is_saved, load_checkpoint
from nakt_fed.data.folders import PictureSet, load_annotated
from nakt_fed.data.split import split
from nakt_fed.errors import FilterError
from nakt_fed.filtering import read_filter
from nakt_fed.fusion import fuse
from nakt_fed.metrics import dice, summary
from nakt_fed.paper.scale import FEW
from nakt_fed.predict import soft_masks
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.run import Run
from nakt_fed.seeds import draw
from nakt_fed.site_data import private_data
from nakt_fed.store import PseudoSet
from nakt_fed.student import StudentJob, train_student
from nakt_fed.study import SiteSpec, Study, TeacherSpec
from nakt_fed.study_file import parse_study
from nakt_fed.teacher import train_teacher
from simulation.cells import Task
from simulation.oracle import InProcess

TEACHER, STUDENT = "teacher.safetensors", "student.safetensors"


def work(task: Task) -> dict[str, Any]:
    """Plain JSON: at least "dice" {test set: {mean, std, n, per_image}}, None where the student had too few pictures."""
    torch.set_num_threads(task.threads)
    return {"teacher": teacher, "masks": masks, "student": student, "tuned": tuned}[task.what["make"]](task)


def teacher(task: Task) -> dict[str, Any]:
    """A network trained on the teacher-training set, tested on every test set."""
    what, pictures = task.what, task.where["train"]
    spec = TeacherSpec(**what["network"], **what["recipe"])
    site = SiteSpec(name=what["network"]["network"], images=pictures["images"], masks=pictures["masks"], teacher=spec)
    data = private_data(site, what["size"], what["seed"])
    if not is_saved(task.place / TEACHER):
        train_teacher(site, data, task.place, image_size=what["size"], seed=what["seed"])
    return {"dice": _on_tests(task.place / TEACHER, task), "pictures": len(data.train)}


def masks(task: Task) -> dict[str, Any]:
    """Algorithm 1, lines 1 to 10: the teachers are asked once; all.zarr without and kept.zarr with exclusion."""
    run = Run(
        _mask_study(task, exclude=False),
        task.place,
        InProcess(_mask_study(task, exclude=False), task.place),
        train_student,
    )
    run.predict()
    sites = sites_of_chunks(run.transferal.masks, run.counted, run.study.fusion, run.cards)
    for name, exclude in (("all.zarr", False), ("kept.zarr", True)):
        annotation = Annotation(_mask_study(task, exclude), task.place, run.transferal, sites)
        annotation.annotate()
        enough = _collect(annotation, str(task.place / name))
    verdicts = read_filter(task.place / "filter.csv")
    weights = run.weights(run.round.active)
    answers = {name: {site: shared.masks.all(site) for site in weights} for name, shared in run.tests.items()}
    return {
        "dice": {name: _score(fuse(soft, weights), run.tests[name].truth, run.tests[name].manifest.ids) for name, soft in answers.items()},
        "before": len(verdicts),
        "after": sum(verdict.kept for verdict in verdicts),
        "enough": enough,
        "verdicts": [[verdict.id, verdict.N, verdict.E, verdict.rule] for verdict in verdicts],
    }  # fmt: skip


def _collect(annotation: Annotation, place: str) -> bool:
    """False: too few pictures are kept for a student."""
    try:
        annotation.collect(place)
    except FilterError:
        return False
    return True


def _mask_study(task: Task, exclude: bool) -> Study:
    """The mask round as a study: every teacher is a site with a checkpoint."""
    what = task.what
    sites = [
        {"name": role, "teacher": {**what["teachers"][role], "checkpoint": str(need.place / TEACHER)}}
        for role, need in task.needs.items()
    ]
    raw = {
        "study": {"name": "paper", "seed": what["seed"], "image_size": what["size"]},
        "site": sites,
        "transferal": {"images": [task.where["transferal"]["images"]], "views": 0, "duplicates": "drop"},
        "filter": {"enabled": exclude, **what["filter"]},
        "student": {"network": "unet", "temperature": what["temperature"]},
        "test": [{"name": name, **folders} for name, folders in task.where["tests"].items()],
        "resources": {"site_threads": task.threads, "student_threads": task.threads, "sites_at_once": 1},
    }
    return parse_study(raw, Path("/"))


def student(task: Task) -> dict[str, Any]:
    """Line 11: a student of the pseudo-annotated set, with or without exclusion."""
    found = task.needs["masks"]
    if task.what["exclude"] and not found.result["enough"]:
        return {"dice": None, "pictures": found.result["after"]}
    pseudo = found.place / ("kept.zarr" if task.what["exclude"] else "all.zarr")
    _learn(task, pseudo, None)
    pictures = found.result["after" if task.what["exclude"] else "before"]
    return {"dice": _on_tests(task.place / STUDENT, task), "pictures": pictures}


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
    return _score(soft_masks(model, pictures.images), pictures.masks, pictures.ids)


def _score(answer: Any, truth: Any, ids: Any) -> dict[str, Any]:
    """Dice at threshold 0.5 (DESIGN §3)."""
    each = dice(np.asarray(answer) > 127, np.asarray(truth) > 127)
    return {**summary(each)._asdict(), "per_image": dict(zip(ids, each.round(6).tolist(), strict=True))}
