"""Replay students from a finished mask round: no site is asked again (docs/results.md).

    python studies/student_variants.py RUN [--threads N] [--epochs N] VARIANT [VARIANT ...]

Each variant is trained in this process on pictures that the run's teachers have answered, and tested on the run's test sets.
All variants see as many pictures: one that uses fewer answers repeats them more often. One row per variant is appended to
RUN/variants.csv; a variant that is there already, with as many epochs, is skipped.
"""

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nakt_fed.checkpoint import load_checkpoint
from nakt_fed.filtering import read_filter
from nakt_fed.fusion import sharpen
from nakt_fed.manifest import Manifest
from nakt_fed.metrics import dice
from nakt_fed.predict import soft_masks
from nakt_fed.render import Recipe
from nakt_fed.run_tests import test_sets
from nakt_fed.store import PseudoSet
from nakt_fed.student import StudentJob, train_student
from nakt_fed.study import Study
from nakt_fed.study_file import load_study
from nakt_fed.transferal import SharedSet, transferal_set


@dataclass(frozen=True)
class Variant:
    """What differs from the study: recipe keys, which answers are used, how sharp the pseudo masks are made."""

    recipe: dict[str, Any] = field(default_factory=dict)
    views: int = 999
    kinds: tuple[str, ...] = ("plain", "blend", "box")
    originals: bool = True
    temperature: float | None = None
    max_entropy: float = 8.0


VARIANTS = {
    "study": Variant(),
    "soft": Variant(temperature=1.0),
    "sharper": Variant(temperature=0.25),
    "binary": Variant(temperature=0.05),
    "minimum": Variant({"overlap": "minimum"}),
    "minimum-soft": Variant({"overlap": "minimum"}, temperature=1.0),
    "minimum-fast": Variant({"overlap": "minimum", "learning_rate": 2e-3}),
    "no-ema": Variant({"ema": 0.0}),
    "constant": Variant({"schedule": "constant"}),
    "fast": Variant({"learning_rate": 2e-3}),
    "slow": Variant({"learning_rate": 5e-4}),
    "batch-16": Variant({"batch_size": 16}),
    "batch-4": Variant({"batch_size": 4}),
    "0-views": Variant({"augment": "paper"}, views=0),
    "5-views": Variant(views=5),
    "10-views": Variant(views=10),
    "12-views": Variant(views=12),
    "12-plain": Variant(views=12, kinds=("plain",)),
    "12-blends": Variant(views=12, kinds=("blend",)),
    "12-boxes": Variant(views=12, kinds=("box",)),
    "no-blends": Variant(kinds=("plain", "box")),
    "no-boxes": Variant(kinds=("plain", "blend")),
    "no-originals": Variant(originals=False),
    "paper-augmentation": Variant({"augment": "paper"}),
    "no-flip": Variant({"augment": "none"}),
    "entropy-5": Variant(max_entropy=5.0),
    "float32": Variant({"precision": "float32"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Replay students from a finished mask round.")
    parser.add_argument("run", type=Path)
    parser.add_argument("variants", nargs="+", choices=VARIANTS)
    parser.add_argument("--threads", type=int, help="of the training; the study's by default")
    parser.add_argument("--epochs", type=int, help="over all answers that the study keeps; the study's by default")
    options = parser.parse_args()
    study = load_study(options.run / "study.toml")
    threads = options.threads or study.resources.student_threads
    for name in options.variants:
        if (name, str(epochs := options.epochs or study.student.epochs)) not in _finished(options.run):
            _append(options.run / "variants.csv", replay(study, options.run, name, epochs, threads))


def _finished(run: Path) -> set[tuple[str, str]]:
    path = run / "variants.csv"
    return {(row["variant"], row["epochs"]) for row in csv.DictReader(path.open())} if path.exists() else set()


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", newline="") as file:
        table = csv.DictWriter(file, list(row))
        if file.tell() == 0:
            table.writeheader()
        table.writerow(row)
    print(row, flush=True)


def replay(study: Study, run: Path, name: str, epochs: int, threads: int) -> dict[str, Any]:
    """Train one student and measure it: mean Dice over the test sets, and agreement (Dice) with the ensemble on them."""
    variant, out = VARIANTS[name], run / "variants" / f"{name}-{epochs}"
    out.mkdir(parents=True, exist_ok=True)
    pictures = pseudo_set(study, run, out / "pseudo.zarr", variant)
    everything = sum(verdict.kept for verdict in read_filter(run / "filter.csv"))
    changes = {"epochs": max(1, round(epochs * everything / pictures)), **variant.recipe}
    recipe = study.student.recipe().model_copy(update=changes)
    job = StudentJob(
        who="student",
        pseudo=str(out / "pseudo.zarr"),
        out=out,
        events=out / "events.jsonl",
        network=study.student.spec(),
        recipe=recipe,
        seed=study.study.seed,
        threads=threads,
    )
    began = time.perf_counter()
    train_student(job)
    seconds = round(time.perf_counter() - began)
    steps = round(pictures * (1 - recipe.validation) / recipe.batch_size) * recipe.epochs
    return {
        "variant": name,
        "epochs": epochs,
        "pictures": pictures,
        "steps": steps,
        "seconds": seconds,
        **measure(study, run, out),
    }


def pseudo_set(study: Study, run: Path, path: Path, variant: Variant) -> int:
    """Write the variant's pseudo-annotated set from the run's stores; returns how many pictures it has."""
    shared: SharedSet = transferal_set(study, run)
    verdicts = read_filter(run / "filter.csv")
    rows = list(wanted(shared.manifest, variant))
    rows = [
        row for row in rows if verdicts[row].rule != "few_targets" and (verdicts[row].E or 0) <= variant.max_entropy
    ]
    temperature = variant.temperature or study.student.temperature
    out = PseudoSet(path, study.study.image_size, 64, [verdicts[row].id for row in rows])
    images, masks = shared.images, shared.masks.pseudo
    for start in range(0, len(rows), 64):
        part = np.array(rows[start : start + 64])
        out.add(images.oindex[part], sharpen(masks.oindex[part], temperature))  # type: ignore[union-attr]
    out.close(str(variant))
    return len(rows)


def wanted(manifest: Manifest, variant: Variant) -> Iterator[int]:
    """The rows of the originals, and of the first views of the variant's kinds of each."""
    if variant.originals:
        yield from range(manifest.originals)
    if manifest.views is None:
        return
    names = manifest.ids[: manifest.originals]
    for i in range(len(names)):
        of_kind = (
            k for k in range(manifest.views.per_picture) if _kind(manifest.views.recipe(names, i, k)) in variant.kinds
        )
        yield from (manifest.originals + i * manifest.views.per_picture + k for k in islice(of_kind, variant.views))


def _kind(recipe: Recipe) -> str:
    if recipe.partner is None:
        return "plain"
    return "blend" if recipe.box is None else "box"


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
