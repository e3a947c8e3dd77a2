"""FedAvg of the student's network on the study's sites, by Flower's own strategy in Flower's simulation, beside a run of ours.

    python -m benchmarks.fedavg STUDY.toml [--run RUN] [--rounds 10] [--epochs 2]

The same sites, split, image size, seed and first weights as the study's student; the local training is the project's own
loop with the student's recipe. With --run, the Dice and the bytes of that run of `nakt run` stand beside it. Minutes to hours.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nakt_fed.checkpoint import load_checkpoint
from nakt_fed.classes import ONE
from nakt_fed.errors import NaktError, RunError
from nakt_fed.metrics import dice
from nakt_fed.predict import soft_masks
from nakt_fed.run_tests import test_sets
from nakt_fed.study import Study
from nakt_fed.study.file import dump_study, load_study
from simulation.flower import federation, run_app

from .common import machine

APP = Path(__file__).parent / "averaging"


def averaged(study: Study, run: Path, rounds: int, epochs: int) -> dict[str, int]:
    """Leaves fedavg.safetensors in `run`; returns the bytes of weights {"sent", "received"}. Raises RunError: it failed."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "study.toml").write_text(dump_study(study), encoding="utf-8")
    settings = {"study": str(run / "study.toml"), "run-dir": str(run), "rounds": rounds, "epochs": epochs}
    tell = lambda event: print(event.get("message", ""), file=sys.stderr, flush=True)  # noqa: E731
    run_app(APP, run, settings, federation(study), study.resources.site_threads, False, tell)
    moved: dict[str, int] = json.loads((run / "moved.json").read_text())
    return moved


def scores(study: Study, run: Path) -> dict[str, float]:
    """Mean Dice of the averaged network per test set, as the study's students are judged."""
    torch.set_num_threads(study.resources.student_threads)
    model, _ = load_checkpoint(run / "fedavg.safetensors", expect=study.student.spec())
    return {
        name: float(dice(soft_masks(model, np.asarray(shared.images[:])) > 127, shared.truth > 127).mean())
        for name, shared in test_sets(study, run).items()
    }


def results_of(study: Study, run: Path) -> dict[str, Any]:
    """results.json of a run of the same study. Raises RunError: there is none, or it is of another seed, size or split."""
    path = run / "results.json"
    if not path.exists():
        raise RunError(f"{run} has no results.json; give the folder of a finished run")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    told, wanted = found["settings"], study.model_dump(mode="json")
    ours = {"seed": wanted["study"]["seed"], "image_size": wanted["study"]["image_size"], "sites": study.site_names}
    run_s = {key: told["study"][key] for key in ("seed", "image_size")} | {"sites": [s["name"] for s in told["site"]]}
    if ours != run_s:
        raise RunError(f"{run} is a run of {run_s}, the study says {ours}; give --seed, or another run")
    return found


def table(fedavg: dict[str, float], moved: dict[str, int], results: dict[str, Any] | None) -> str:
    """Markdown: Dice in % per test set and their mean, then the bytes of all sites together."""
    columns = {"FedAvg": fedavg}
    if results:
        means = {model: {name: row["mean"] for name, row in tests.items()} for model, tests in results["dice"].items()}
        columns |= {model: means[model] for model in means}
    lines = ["| test set | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name in fedavg:
        lines.append(f"| {name} | " + " | ".join(f"{100 * each[name]:.1f}" for each in columns.values()) + " |")
    overall = [100 * float(np.mean([each[name] for name in fedavg])) for each in columns.values()]
    lines.append("| mean | " + " | ".join(f"{value:.1f}" for value in overall) + " |")
    theirs = moved["sent"] + moved["received"]
    lines += ["", f"bytes of all sites: FedAvg {theirs:,} ({moved['sent']:,} out, {moved['received']:,} back)"]
    if results:
        ours = results["bytes"]["out"] + results["bytes"]["back"]
        lines.append(f"bytes of the run: {ours:,}; ratio {theirs / ours:.1f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.fedavg", description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--run", type=Path, help="a finished run of the same study")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=2, help="of each site in a round")
    parser.add_argument("--seed", type=int, help="another seed than the study's")
    options = parser.parse_args(arguments)
    try:
        print(compared(options))
    except NaktError as error:
        sys.exit(f"error: {error}")
    print(f"\n{options.rounds} rounds of {options.epochs} epochs. {machine()}", flush=True)


def compared(options: argparse.Namespace) -> str:
    study = load_study(options.study)
    if study.classes != ONE:
        raise RunError(
            f"{options.study}: FedAvg needs the same classes at all sites, they know {list(study.classes)}; take another"
        )
    if options.seed is not None:
        study = study.model_copy(update={"study": study.study.model_copy(update={"seed": options.seed})})
    results = results_of(study, options.run) if options.run else None
    with tempfile.TemporaryDirectory(prefix="nakt-fedavg-") as folder:
        moved = averaged(study, Path(folder) / "run", options.rounds, options.epochs)
        return table(scores(study, Path(folder) / "run"), moved, results)


if __name__ == "__main__":
    main()
