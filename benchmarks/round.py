"""A mask round through Flower's simulation, against the same inference in a plain loop on the same cores.

Inside: from the first offer to the last mask in the store (stage "masks" of events.jsonl): manifest, pictures to every
site, inference, coding, Flower, checks, mask store, ledger. Outside: start-up, that is Flower, Ray, reading the pictures
and loading the teachers; it is printed. The plain loop: one process per core with one thread, its networks loaded and
warmed up before the clock starts, `soft_masks` of the same chunks of pictures, and nothing else.
"""

import argparse
import multiprocessing
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

from nakt_fed.checkpoint import load_checkpoint, save_checkpoint
from nakt_fed.data.folders import load_pictures
from nakt_fed.errors import RunError
from nakt_fed.events import follow
from nakt_fed.ledger import Ledger
from nakt_fed.predict import soft_masks
from nakt_fed.recipe import NetworkSpec
from nakt_fed.study.file import load_study
from nakt_fed.teacher import fresh_network
from simulation.flower import run_flower

from .common import KEEPS_NOTHING, RESNET, Row, interleaved, show, synthetic_study, times_faster, write_pictures

GOAL = 0.85
CHUNK = 32  # pictures of a chunk: an eighth of the set
TINY = NetworkSpec(network="unet", width=2)


def prepare(folder: Path, spec: NetworkSpec, *, sites: int, pictures: int, size: int, cores: int) -> Path:
    """A study whose teachers have random weights, and which ends after the round, because its filter keeps nothing."""
    for number in range(3):
        save_checkpoint(folder / f"teacher-{number}.safetensors", fresh_network(spec, number), spec)
    transferal = write_pictures(folder / "transferal", pictures, 64)
    synthetic_study(
        folder,
        sites=sites,
        pictures=transferal,
        image_size=size,
        network=spec.model_dump(exclude_none=True),
        filter=KEEPS_NOTHING,
        resources={"sites_at_once": cores, "site_threads": 1},
    )
    return folder / "study.toml"


def federated(study: Path, run: Path) -> tuple[float, float]:
    """(seconds of the round, seconds of everything else) of one run through Flower."""
    run.mkdir(parents=True)
    (run / "study.toml").write_bytes(study.read_bytes())
    began = perf_counter()
    with suppress(RunError):  # the filter's, see `prepare`
        run_flower(study, run, False, lambda event: None)
    whole = perf_counter() - began
    stages = [event for event in follow(run / "events.jsonl", lambda: True) if event["kind"] == "stage"]
    rounds = [float(event["seconds"]) for event in stages if event["name"] == "masks" and event["state"] == "done"]
    if not rounds:
        raise RunError(f"no round took place; the end of flower.log:\n{(run / 'flower.log').read_text()[-2000:]}")
    return rounds[0], whole - rounds[0]


def federated_round(
    folder: Path, spec: NetworkSpec, *, sites: int, pictures: int, size: int, cores: int = 2
) -> tuple[float, int]:
    """(seconds of the round, answered chunks)."""
    study = prepare(folder, spec, sites=sites, pictures=pictures, size=size, cores=cores)
    seconds, _ = federated(study, folder / "run")
    lines = Ledger(folder / "run" / "ledger.jsonl").lines()
    return seconds, sum(line["kind"] == "masks" and line["outcome"] == "ok" for line in lines)


def plain(study_path: Path, cores: int) -> float:
    """Seconds of the same inference in `cores` processes that share the sites' chunks."""
    study = load_study(study_path)
    images = load_pictures(study.transferal.images, study.study.image_size).images
    chunks = [(site, start) for site in range(len(study.site)) for start in range(0, len(images), CHUNK)]
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(cores + 1)
    shares = [(study_path, images, chunks[number::cores], barrier) for number in range(cores)]
    workers = [context.Process(target=_infer, args=share) for share in shares]
    for worker in workers:
        worker.start()
    barrier.wait()
    began = perf_counter()
    barrier.wait()
    took = perf_counter() - began
    for worker in workers:
        worker.join()
    return took


def _infer(study_path: Path, images: Any, chunks: list[tuple[int, int]], barrier: Barrier) -> None:
    torch.set_num_threads(1)
    teachers = {}
    for site, spec in enumerate(load_study(study_path).site):
        assert spec.teacher.checkpoint
        teachers[site], _ = load_checkpoint(spec.teacher.checkpoint)
        soft_masks(teachers[site], np.zeros((1, *images.shape[1:]), np.uint8))
    barrier.wait()
    for site, start in chunks:
        soft_masks(teachers[site], images[start : start + CHUNK])
    barrier.wait()


def measure(
    spec: NetworkSpec, *, sites: int = 3, pictures: int = 256, size: int = 256, cores: int = 2, repeats: int = 3
) -> list[Row]:
    """The ratio is Flower's speed ÷ the plain loop's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = prepare(folder, spec, sites=sites, pictures=pictures, size=size, cores=cores)
        others: list[float] = []

        def once() -> float:
            seconds, other = federated(study, folder / f"run-{len(others)}")
            others.append(other)
            return seconds

        ours, loop = interleaved([once, partial(plain, study, cores)], repeats, warm_up=False)
    what = f"{sites} sites × {pictures} pictures at {size}² (start-up {median(others):.0f} s excluded)"
    rates = [f"{sites * pictures / median(column):.1f} masks/s" for column in (ours, loop)]
    return [Row(what, rates[0], rates[1], times_faster(ours, loop), GOAL)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; five minutes."""
    parser = argparse.ArgumentParser(prog="benchmarks.round", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    rows = measure(NetworkSpec(**RESNET), repeats=parser.parse_args(arguments).repeats)
    note = "panoptic_fpn with resnet18, random weights, chunks of 32; 2 processes × 1 thread on both sides."
    show(
        "Mask round through Flower", rows, f"{note} Start-up: Flower, Ray, reading the pictures, loading the teachers."
    )


if __name__ == "__main__":
    main()
