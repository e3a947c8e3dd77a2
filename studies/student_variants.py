"""Replay students from a finished mask round: no site is asked again (docs/results.md).

    python studies/student_variants.py RUN [--threads N] VARIANT [VARIANT ...]

Each variant is trained in this process on pictures that the run's teachers have answered, and tested on the run's test sets.
One row per variant is appended to RUN/variants.csv; a variant that is there already is skipped.
"""

import argparse
import csv
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nakt_fed.checkpoint import load_checkpoint
from nakt_fed.filtering import read_filter
from nakt_fed.metrics import dice
from nakt_fed.predict import soft_masks
from nakt_fed.run_tests import test_sets
from nakt_fed.store import PseudoSet
from nakt_fed.student import StudentJob, train_student
from nakt_fed.study import Study
from nakt_fed.study_file import load_study
from nakt_fed.transferal import SharedSet, transferal_set


@dataclass(frozen=True)
class Variant:
    """What differs from the study: recipe keys, how many views per picture are used, a sharper or softer pseudo mask."""

    recipe: dict[str, Any] = field(default_factory=dict)
    views: int = 20
    originals: bool = True
    temperature: float = 1.0
    max_entropy: float = 8.0


VARIANTS = {
    "default": Variant(),
    "ema": Variant({"ema": 0.99}),
    "constant": Variant({"schedule": "constant"}),
    "fast": Variant({"learning_rate": 2e-3}),
    "slow": Variant({"learning_rate": 5e-4}),
    "4-epochs": Variant({"epochs": 4}),
    "batch-16": Variant({"batch_size": 16}),
    "batch-4": Variant({"batch_size": 4}),
    "originals-40-epochs": Variant({"epochs": 40, "augment": "paper"}, views=0),
    "8-views-5-epochs": Variant({"epochs": 5}, views=8),
    "no-originals": Variant(originals=False),
    "paper-augmentation": Variant({"augment": "paper"}),
    "no-flip": Variant({"augment": "none"}),
    "sharp": Variant(temperature=0.5),
    "entropy-5": Variant(max_entropy=5.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Replay students from a finished mask round.")
    parser.add_argument("run", type=Path)
    parser.add_argument("variants", nargs="+", choices=VARIANTS)
    parser.add_argument("--threads", type=int, help="of the training; the study's by default")
    options = parser.parse_args()
    replay_all(options.run, options.variants, options.threads)


def replay_all(run: Path, names: list[str], threads: int | None) -> None:
    """One row of RUN/variants.csv per variant."""
    study = load_study(run / "study.toml")
    if threads:
        study = study.model_copy(update={"resources": study.resources.model_copy(update={"student_threads": threads})})
    for name in names:
        if name in _finished(run):
            continue
        row = replay(study, run, name, VARIANTS[name])
        with (run / "variants.csv").open("a", newline="") as file:
            table = csv.DictWriter(file, list(row))
            if file.tell() == 0:
                table.writeheader()
            table.writerow(row)
        print(row, flush=True)


def _finished(run: Path) -> set[str]:
    path = run / "variants.csv"
    return {row["variant"] for row in csv.DictReader(path.open())} if path.exists() else set()


def replay(study: Study, run: Path, name: str, variant: Variant) -> dict[str, Any]:
    """Train one student and measure it: mean Dice over the test sets, and agreement (Dice) with the ensemble on them."""
    out = run / "variants" / name
    out.mkdir(parents=True, exist_ok=True)
    pictures = pseudo_set(study, run, out / "pseudo.zarr", variant)
    recipe = study.student.recipe().model_copy(update=variant.recipe)
    threads, seed = study.resources.student_threads, study.study.seed
    began = time.perf_counter()
    train_student(
        StudentJob(
            who="student", pseudo=str(out / "pseudo.zarr"), out=out, events=out / "events.jsonl", network=study.student.spec(),
            recipe=recipe, seed=seed, threads=threads,
        )
    )  # fmt: skip
    seconds = time.perf_counter() - began
    scores = measure(study, run, out)
    steps = round(pictures * (1 - recipe.validation) / recipe.batch_size) * recipe.epochs
    return {"variant": name, "pictures": pictures, "steps": steps, "seconds": round(seconds), **scores}


def pseudo_set(study: Study, run: Path, path: Path, variant: Variant) -> int:
    """Write the variant's pseudo-annotated set from the run's stores; returns how many pictures it has."""
    shared: SharedSet = transferal_set(study, run)
    verdicts = read_filter(run / "filter.csv")
    first, per = shared.manifest.originals, study.transferal.views
    rows = [row for row in range(len(shared.manifest)) if _wanted(row, first, per, variant)]
    rows = [
        row for row in rows if verdicts[row].rule != "few_targets" and (verdicts[row].E or 0) <= variant.max_entropy
    ]
    out = PseudoSet(path, study.study.image_size, 64, [verdicts[row].id for row in rows])
    images, masks = shared.images, shared.masks.pseudo
    for start in range(0, len(rows), 64):
        part = np.array(rows[start : start + 64])
        out.add(images.oindex[part], sharpened(masks.oindex[part], variant.temperature))  # type: ignore[union-attr]
    out.close(str(variant))
    return len(rows)


def _wanted(row: int, first: int, per: int, variant: Variant) -> bool:
    return variant.originals if row < first else (row - first) % per < variant.views


def sharpened(masks: np.ndarray, temperature: float) -> np.ndarray:
    """sigmoid(logit(p) / temperature) on soft masks (n, H, W) uint8."""
    if temperature == 1:
        return masks
    p = np.clip(np.arange(256) / 255, 1e-3, 1 - 1e-3)
    table = 1 / (1 + np.exp(-np.log(p / (1 - p)) / temperature))
    return np.rint(255 * table).astype(np.uint8)[masks]


def measure(study: Study, run: Path, out: Path) -> dict[str, float]:
    """Mean Dice in % over the test sets, against the truth and against the ensemble."""
    model, _ = load_checkpoint(out / "student.safetensors", expect=study.student.spec())
    truth, ensemble, each = [], [], {}
    for name, shared in test_sets(study, run).items():
        answer = soft_masks(model, np.asarray(shared.images[:])) > 127
        sites = np.mean([shared.masks.all(site) for site in study.site_names], axis=0)
        truth.append(dice(answer, shared.truth > 127).mean())
        ensemble.append(dice(answer, sites > 127.5).mean())
        each[name] = round(100 * truth[-1], 2)
    return {
        "mean": round(100 * float(np.mean(truth)), 2),
        "agreement": round(100 * float(np.mean(ensemble)), 2),
        **each,
    }


if __name__ == "__main__":
    main()
