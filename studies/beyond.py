"""Ways to use a finished run's answers better than the plain student does, each beside it with as many steps (docs/results.md).

    python studies/beyond.py RUN OUT METHOD [METHOD ...]      # again with the RUN of another seed, into the same OUT

A row per method and seed is added to OUT/rows.jsonl; what is there already is not made again. Only with RUN's stored
answers, but for `flips`, which asks the run's teachers about mirrored pictures. Prints each method beside `views`, over all seeds in OUT.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from nakt_fed import train
from nakt_fed.checkpoint import is_saved, load_checkpoint
from nakt_fed.fusion import sharpen
from nakt_fed.losses import dice_loss
from nakt_fed.metrics import dice, paired_bootstrap
from nakt_fed.predict import soft_masks
from nakt_fed.replay.stored import StoredRun
from nakt_fed.store import PseudoSet, open_group
from nakt_fed.student import StudentJob, train_student

VIEWS = 12
"""Of each picture; `more_views` and `flips` have twice as many answers of the teachers."""
PICTURES = 12_500
"""Shown to each student, about a third of what the study shows."""
BLOCK = 64
Images = NDArray[np.uint8]


class Kept:
    """The pictures that the run's filter kept, and the run's pseudo masks of them."""

    def __init__(self, run: StoredRun) -> None:
        group: Any = open_group(str(run.folder / "pseudo.zarr"))
        self.run, self.group, self.ids = run, group, [str(i) for i in group.attrs["ids"]]
        self.view = np.array([int(i.rpartition("~")[2]) if "~" in i else -1 for i in self.ids])

    def rows(self, first: int, end: int, originals: bool = True) -> list[int]:
        wanted = (first <= self.view) & (self.view < end) | (originals & (self.view < 0))
        return [int(row) for row in np.flatnonzero(wanted)]

    def images(self, rows: list[int]) -> Images:
        return np.asarray(self.group["images"].oindex[rows])

    def masks(self, rows: list[int]) -> Images:
        return np.asarray(self.group["masks"].oindex[rows])


def fit_student(kept: Kept, rows: list[int], masks: Images, out: Path) -> None:
    """A fresh student that is shown `PICTURES` pictures, beginning where the run's own student began."""
    study = kept.run.study
    if not is_saved(out / "student.safetensors"):
        written = PseudoSet(out / "pseudo.zarr", study.study.image_size, BLOCK, [kept.ids[row] for row in rows])
        for start in range(0, len(rows), BLOCK):
            written.add(kept.images(rows[start : start + BLOCK]), masks[start : start + BLOCK])
        written.close("replay")
        recipe = study.student.recipe().model_copy(update={"epochs": max(1, round(PICTURES / len(rows)))})
        job = {"who": "student", "pseudo": str(out / "pseudo.zarr"), "out": out, "events": out / "events.jsonl"}
        network = study.student.spec()
        train_student(
            StudentJob(**job, network=network, recipe=recipe, seed=study.study.seed, threads=1, calibrate=True)
        )


def views(kept: Kept, out: Path) -> None:
    """What the framework does."""
    rows = kept.rows(0, VIEWS)
    fit_student(kept, rows, kept.masks(rows), out)


def more_views(kept: Kept, out: Path) -> None:
    """Twice the views: as many answers as `flips` has."""
    rows = kept.rows(0, 2 * VIEWS)
    fit_student(kept, rows, kept.masks(rows), out)


def flips(kept: Kept, out: Path) -> None:
    """Each teacher answers a picture and its mirror image, and their mean counts: twice the answers."""
    rows = kept.rows(0, VIEWS)
    fit_student(kept, rows, mirrored_too(kept, rows), out)


def mirrored_too(kept: Kept, rows: list[int]) -> Images:
    run, images = kept.run, kept.images(rows)
    total = np.zeros(images.shape, np.uint16)
    for site in run.study.site:
        model, _ = load_checkpoint(run.folder / "sites" / site.name / "teacher.safetensors", expect=site.teacher.spec())
        total += soft_masks(model, images)
        total += soft_masks(model, np.ascontiguousarray(images[:, :, ::-1]))[:, :, ::-1]
    mean = np.rint(total / (2 * len(run.study.site))).astype(np.uint8)
    return sharpen(mean, run.study.student.temperature)


def confidence(kept: Kept, out: Path) -> None:
    """Binary cross entropy weighted per pixel by 1 − H(y)/ln 2, with mean 1; the Dice loss as ever."""
    usual, train.dice_bce = train.dice_bce, confident_dice_bce
    try:
        views(kept, out)
    finally:
        train.dice_bce = usual


def confident_dice_bce(logits: torch.Tensor, target: torch.Tensor, overlap: str = "product") -> torch.Tensor:
    logits, target = logits.float(), target.float()
    weight = 1 + (torch.xlogy(target, target) + torch.xlogy(1 - target, 1 - target)) / np.log(2)
    entropy = F.binary_cross_entropy_with_logits(logits, target, weight / weight.mean().clamp(min=1e-3))
    return dice_loss(logits, target, overlap=overlap) + entropy  # type: ignore[arg-type]


def relabel(kept: Kept, out: Path) -> None:
    """A second student learns the first one's answers to as many more views, beside the teachers' answers to the first."""
    first = out.parent / out.name.replace("relabel", "views")
    views(kept, first)
    model, _ = load_checkpoint(first / "student.safetensors", expect=kept.run.study.student.spec())
    asked, more = kept.rows(0, VIEWS), kept.rows(VIEWS, 2 * VIEWS, originals=False)
    fit_student(kept, asked + more, np.concatenate([kept.masks(asked), soft_masks(model, kept.images(more))]), out)


def foreground(kept: Kept, out: Path) -> None:
    """The same answers, drawn with replacement: one on which the ensemble sees four times the target twice as often."""
    rows = kept.rows(0, VIEWS)
    area = np.sqrt((kept.masks(rows) > 127).mean(axis=(1, 2)))
    seed = kept.run.study.study.seed
    drawn = sorted(np.random.default_rng(seed).choice(rows, len(rows), p=area / area.sum()).tolist())
    fit_student(kept, drawn, kept.masks(drawn), out)


def quotas(kept: Kept, out: Path) -> None:
    """As many answers, an equal number of views from each transferal folder."""
    folders = [each.partition("/")[0] for each in kept.ids]
    share = len(kept.rows(0, VIEWS, originals=False)) // len(set(folders))
    rows = kept.rows(0, 0)
    for folder in dict.fromkeys(folders):
        own = [row for row in kept.rows(0, 999, originals=False) if folders[row] == folder]
        rows += sorted(own, key=lambda row: int(kept.view[row]))[:share]
    fit_student(kept, rows, kept.masks(rows), out)


METHODS: dict[str, Callable[[Kept, Path], None]] = {
    method.__name__: method for method in (views, more_views, flips, confidence, relabel, foreground, quotas)
}


def measured(run: StoredRun, out: Path) -> dict[str, object]:
    """Dice per test picture, and the mean Dice of student and plain mean of the teachers: also of a run without its own student."""
    model, _ = load_checkpoint(out / "student.safetensors", expect=run.study.student.spec())
    found: dict[str, float] = {}
    agreement: list[float] = []
    for name, shared in run.tests.items():
        answer = soft_masks(model, np.asarray(shared.images[:])) > 127
        ensemble = np.mean([shared.masks.all(site) for site in run.active], axis=0) > 127
        values = dice(answer, shared.truth > 127)
        found |= {f"{name}/{i}": float(v) for i, v in zip(shared.manifest.ids, values, strict=True)}
        agreement.append(float(dice(answer, ensemble).mean()))
    return {"per_image": found, "agreement": float(np.mean(agreement))}


def compared(path: Path) -> Iterator[str]:
    """Mean Dice and agreement of each method, and how far above `views` it is, with a bootstrap interval over pictures and seeds."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    usual = {row["seed"]: row["per_image"] for row in rows if row["cell"] == "views"}
    for method in dict.fromkeys(row["cell"] for row in rows):
        own = [row for row in rows if row["cell"] == method and row["seed"] in usual]
        pairs = [(dice, usual[row["seed"]][i]) for row in own for i, dice in row["per_image"].items()]
        told = [f"seed {row['seed']}: agreement {100 * row['agreement']:.1f}" for row in own]
        found = paired_bootstrap(*np.transpose(pairs)) if pairs else None
        gain = f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})" if found else "no views"
        yield f"{method}: {gain}; {', '.join(told)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Other students of a finished run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("methods", nargs="+", choices=METHODS, metavar="METHOD", help=", ".join(METHODS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = Kept(StoredRun(options.run))
    seed = kept.run.study.study.seed
    options.out.mkdir(parents=True, exist_ok=True)
    for method in options.methods:
        place = options.out / f"{method}-{seed}"
        if (place / "row.json").exists():
            continue
        METHODS[method](kept, place)
        row = {"cell": method, "seed": seed, **measured(kept.run, place)}
        with (options.out / "rows.jsonl").open("a", encoding="utf-8") as rows:
            rows.write(json.dumps(row) + "\n")
        (place / "row.json").write_text(json.dumps(row), encoding="utf-8")
        print(
            f"{method}, seed {seed}: agreement with the ensemble {100 * float(str(row['agreement'])):.1f} %", flush=True
        )
    print(*compared(options.out / "rows.jsonl"), sep="\n")


if __name__ == "__main__":
    main()
