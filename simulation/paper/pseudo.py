"""The cells of the paper's experiments that make pseudo masks: the teachers are asked, then pictures are excluded."""

from pathlib import Path
from typing import Any

import numpy as np

from nakt_fed.filtering import Verdict, judge_again, read_filter, scaled_alpha
from nakt_fed.metrics import dice, summary
from nakt_fed.run import Run
from nakt_fed.shared_set import SharedSet
from nakt_fed.store import PseudoSet, open_group
from nakt_fed.student import train_student
from nakt_fed.study import Study
from nakt_fed.study.file import parse_study
from nakt_fed.weightings.bound import Combiner
from simulation.cells import Made, Task
from simulation.oracle import InProcess

TEACHER, ALL, KEPT = "teacher.safetensors", "pseudo.zarr", "kept.zarr"
COPIED = 256
"""Pictures in memory at a time."""


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
    return score(fused, shared.truth, shared.manifest.ids)


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


def score(answer: Any, truth: Any, ids: Any) -> dict[str, Any]:
    """Dice at threshold 0.5 (DESIGN §3)."""
    each = dice(np.asarray(answer) > 127, np.asarray(truth) > 127)
    return {**summary(each)._asdict(), "per_image": dict(zip(ids, each.round(6).tolist(), strict=True))}
