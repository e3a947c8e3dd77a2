"""What a cell of the paper's experiments does on its worker: train a teacher, ask for masks, train or fine-tune a student."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from nakt_fed.checkpoint import is_saved, load_checkpoint
from nakt_fed.data.folders import PictureSet, load_annotated
from nakt_fed.data.split import split
from nakt_fed.filtering import Verdict, judge_again, read_filter, scaled_alpha
from nakt_fed.metrics import dice, summary
from nakt_fed.paper.scale import FEW
from nakt_fed.predict import soft_masks
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.run import Run
from nakt_fed.seeds import draw
from nakt_fed.site_data import private_data
from nakt_fed.store import PseudoSet, open_group
from nakt_fed.student import StudentJob, train_student
from nakt_fed.study import SiteSpec, Study, TeacherSpec
from nakt_fed.study_file import parse_study
from nakt_fed.teacher import train_teacher
from nakt_fed.transferal import SharedSet
from nakt_fed.weightings.bound import Combiner
from simulation.cells import Made, Task
from simulation.oracle import InProcess

TEACHER, STUDENT, ALL, KEPT = "teacher.safetensors", "student.safetensors", "pseudo.zarr", "kept.zarr"
COPIED = 256
"""Pictures in memory at a time."""


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


def masks(task: Task) -> dict[str, Any]:
    """Algorithm 1, lines 1 to 4: the teachers are asked once; pseudo.zarr, and N and E of every pseudo mask."""
    study = _mask_study(task)
    run = Run(study, task.place, InProcess(study, task.place), train_student)
    run.predict()
    run.fuse_and_filter()
    dice = {name: _ensemble(shared, run.combiners[""].of(run.round.active)) for name, shared in run.tests.items()}
    verdicts = read_filter(task.place / "filter.csv")
    return {"dice": dice, "pictures": len(verdicts), "numbers": [[each.id, each.N, each.E] for each in verdicts]}


def _ensemble(shared: SharedSet, combine: Combiner) -> dict[str, Any]:
    fused = combine({site: shared.masks.all(site) for site in combine.sites})
    return _score(fused, shared.truth, shared.manifest.ids)


def _mask_study(task: Task) -> Study:
    """The mask round as a study: every teacher is a site with a checkpoint; nothing is excluded yet."""
    what = task.what
    sites = [
        {"name": role, "teacher": {**what["teachers"][role], "checkpoint": str(need.place / TEACHER)}}
        for role, need in task.needs.items()
    ]
    raw = {
        "study": {"name": "paper", "seed": what["seed"], "image_size": what["size"]},
        "site": sites,
        "transferal": {"images": [task.where["transferal"]["images"]], "views": 0, "duplicates": "drop"},
        "filter": {"enabled": False},
        "student": {"network": "unet", "temperature": 1.0},
        "test": [{"name": name, **folders} for name, folders in task.where["tests"].items()],
        "resources": {"site_threads": task.threads, "student_threads": task.threads, "sites_at_once": 1},
    }
    return parse_study(raw, Path("/"))


def kept(task: Task) -> dict[str, Any]:
    """Algorithm 1, lines 5 to 9: what has a salient target, in kept.zarr."""
    what, found = task.what, task.needs["masks"]
    alpha = scaled_alpha(what["min_target_pixels"], what["size"])
    beta = what["max_entropy"] or _beta(task.needs["reference"], alpha, what["share"])
    verdicts = judge_again(numbers(found), alpha, beta)
    rows = [row for row, verdict in enumerate(verdicts) if verdict.kept]
    if rows:
        _copy(found.place / ALL, rows, task.place / KEPT, what["size"])
    rules = {verdict.id: verdict.rule for verdict in verdicts if not verdict.kept}
    return {"beta": beta, "pictures": len(rows), "enough": len(rows) >= what["min_kept"], "rules": rules}


def numbers(made: Made) -> list[Verdict]:
    """N and E of a mask round's pictures."""
    return [Verdict(name, n, e, "") for name, n, e in made.result["numbers"]]


def _beta(reference: Made, alpha: float, share: float) -> float:
    """The β under which this share of the reference's pictures is kept, as far as α leaves so many."""
    bits = sorted(verdict.E or 0.0 for verdict in numbers(reference) if alpha <= verdict.N)
    wanted = round(share * reference.result["pictures"])
    return bits[min(wanted, len(bits)) - 1] if bits and wanted else 0.0


def _copy(source: Path, rows: list[int], target: Path, size: int) -> None:
    group = open_group(source)
    ids: list[str] = list(group.attrs["ids"])  # type: ignore[arg-type]
    out = PseudoSet(target, size, COPIED, [ids[row] for row in rows])
    for start in range(0, len(rows), COPIED):
        part = np.array(rows[start : start + COPIED])
        out.add(*(np.asarray(group[name].oindex[part]) for name in ("images", "masks")))  # type: ignore[union-attr]
    out.close("kept")


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
    return _score(soft_masks(model, pictures.images), pictures.masks, pictures.ids)


def _score(answer: Any, truth: Any, ids: Any) -> dict[str, Any]:
    """Dice at threshold 0.5 (DESIGN §3)."""
    each = dice(np.asarray(answer) > 127, np.asarray(truth) > 127)
    return {**summary(each)._asdict(), "per_image": dict(zip(ids, each.round(6).tolist(), strict=True))}
