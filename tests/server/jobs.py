"""Tiny trainings for the tests of the student's process."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from nakt_fed.data.synthetic import synthetic_set
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.store import PseudoSet
from nakt_fed.student import StudentJob, train_student

ROOT = Path(__file__).parents[2]


def make_job(run: Path, out: str = "", pictures: int = 20, epochs: int = 3, **changes: Any) -> StudentJob:
    """A training of a U-Net of width 2 on synthetic pictures of 32×32."""
    if not (run / "pseudo.zarr").exists():
        pseudo = synthetic_set(pictures, 32, 7)
        store = PseudoSet(run / "pseudo.zarr", 32, 8, pseudo.ids)
        store.add(np.asarray(pseudo.images), np.asarray(pseudo.masks))
        store.close("whole")
    (run / out).mkdir(exist_ok=True)
    recipe = Recipe(epochs=epochs, batch_size=4, augment="flip", ema=0.5, keep="best")
    fields = {
        "who": "student",
        "pseudo": str(run / "pseudo.zarr"),
        "out": run / out,
        "events": run / "events.jsonl",
        "network": NetworkSpec(network="unet", width=2),
        "recipe": recipe,
        "seed": 3,
        "threads": 1,
    }
    return StudentJob.model_validate(fields | changes)


def in_process(job: StudentJob, run: Path) -> StudentJob:
    """The same training by the oracle, in a folder of its own."""
    run.mkdir()
    alone = job.model_copy(update={"out": run, "events": run / "events.jsonl", "storage": None, "workers": 1})
    threads = torch.get_num_threads()
    train_student(alone)
    torch.set_num_threads(threads)
    return alone


def same_weights(one: StudentJob, other: StudentJob) -> bool:
    a, b = (load_file(job.out / "student.safetensors") for job in (one, other))
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def last_loss(job: StudentJob) -> float:
    return float((job.out / "history.csv").read_text().splitlines()[-1].split(",")[1])


def epochs(job: StudentJob) -> list[int]:
    """The epochs that the run's events tell of, in order."""
    if not job.events.exists():
        return []
    events = [json.loads(line) for line in job.events.read_text().splitlines()]
    return [event["epoch"] for event in events if event["kind"] == "epoch"]


def history(job: StudentJob) -> list[int]:
    """The epochs in history.csv."""
    return [int(line.split(",")[0]) for line in (job.out / "history.csv").read_text().splitlines()[1:]]


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return found


@contextmanager
def users_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray started by hand on this machine, with nothing of ours in its environment."""
    folder = Path(tempfile.mkdtemp(prefix="nc", dir="/tmp"))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTHONPATH"))}
    ray = shutil.which("ray", path=Path(sys.executable).parent)
    options = f"--head --block --port=0 --num-cpus=2 --temp-dir={folder} --include-dashboard=false".split()
    with subprocess.Popen([str(ray), "start", *options], cwd="/", env=environment, stdout=subprocess.DEVNULL) as head:
        address = folder / "ray_current_cluster"
        monkeypatch.setenv("RAY_ADDRESS", str(wait_for(lambda: address.exists() and address.read_text().strip())))
        yield
        head.terminate()
    shutil.rmtree(folder)
