"""The training step through the project's loop, and through Ray Train with one worker, against a bare PyTorch loop.

All three: deeplabv3plus with resnet18, batches of 8 pictures of 96², the same augmentation, loss, optimizer and threads.
Seconds of an epoch are those of history.csv: every step of it, but neither start-up (Ray's is printed) nor the
checkpoint that `fit` keeps after every epoch, whose cost does not depend on the number of steps; the last row adds it.
"""

import argparse
import csv
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import nn

from nakt_fed.augment import augment
from nakt_fed.cores import cores
from nakt_fed.data.folders import PictureSet
from nakt_fed.data.synthetic import synthetic_set
from nakt_fed.losses import dice_bce
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.store import PseudoSet
from nakt_fed.student import StudentJob
from nakt_fed.teacher import fresh_network
from nakt_fed.train import fit
from nakt_fed.training_state import EpochLog
from server.student import fit_student

from .common import Row, show, times_faster

GOAL, RAY_GOAL = 0.97, 0.95
SPEC = NetworkSpec(network="deeplabv3plus", encoder="resnet18")


def recipe(epochs: int) -> Recipe:
    return Recipe(
        epochs=epochs,
        batch_size=8,
        learning_rate=1e-3,
        schedule="constant",
        ema=0,
        augment="paper",
        validation=0,
        precision="float32",
    )


class Bare:
    """The loop that one writes without the project; its network, loss and augmentation are the project's."""

    def __init__(self, pictures: PictureSet) -> None:
        self.pictures = pictures
        self.model: nn.Module = fresh_network(SPEC, 0).train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)

    def epoch(self) -> float:
        """Its seconds."""
        generator = torch.Generator().manual_seed(0)
        began = perf_counter()
        for indices in torch.randperm(len(self.pictures)).split(8):
            x, y = (
                torch.from_numpy(stack[indices.numpy()])[:, None].float() / 255
                for stack in (self.pictures.images, self.pictures.masks)
            )
            x, y = augment(x, y, "paper", generator)
            self.optimizer.zero_grad()
            loss = dice_bce(self.model(x * 2 - 1), y)
            loss.backward()
            self.optimizer.step()
        return perf_counter() - began


def through_fit(bare: Bare, epochs: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds per epoch of fit, the same with its checkpoints, and of the bare loop, which runs after each epoch of fit."""
    loop: list[float] = []
    whole: list[float] = []
    ended = [perf_counter()]

    def between(log: EpochLog) -> None:
        whole.append(perf_counter() - ended[-1])
        loop.append(bare.epoch())
        ended.append(perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        history = fit(
            fresh_network(SPEC, 0), bare.pictures, recipe(epochs), folder=Path(folder), seed=0, on_epoch=between
        )
    return [log.seconds for log in history][1:], whole[1:], loop[1:]


def through_ray(pictures: PictureSet, epochs: int, threads: int) -> tuple[list[float], float]:
    """Seconds of each epoch but the first, and of all that is no epoch."""
    began = perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pseudo = PseudoSet(folder / "pseudo.zarr", pictures.images.shape[1], 64, pictures.ids)
        pseudo.add(pictures.images, pictures.masks)
        pseudo.close("benchmark")
        common = {"network": SPEC, "recipe": recipe(epochs), "seed": 0, "threads": threads}
        fit_student(
            StudentJob(
                who="student",
                pseudo=str(folder / "pseudo.zarr"),
                out=folder / "out",
                events=folder / "events.jsonl",
                **common,
            )
        )
        with (folder / "out" / "history.csv").open(newline="") as file:
            epoch = [float(row["seconds"]) for row in csv.DictReader(file)]
    return epoch[1:], perf_counter() - began - sum(epoch)


def measure(
    pictures: int = 160,
    size: int = 96,
    epochs: int = 8,
    repeats: int = 5,
    threads: int = cores(),
    ray: bool = True,
) -> list[Row]:
    """Ratios are speeds: seconds of the bare loop ÷ ours. The first epoch of every training warms up and is left out."""
    torch.set_num_threads(threads)
    bare = Bare(synthetic_set(pictures, size, seed=0))
    trainings = [through_fit(bare, epochs + 1) for _ in range(repeats)]
    ours, whole, loop = ([second for part in column for second in part] for column in zip(*trainings, strict=True))
    steps = pictures // 8
    rows = [
        _row("step through `train.fit`", ours, loop, steps, GOAL),
        _row(f"with its checkpoint, epochs of {steps} steps", whole, loop, steps, None),
    ]
    return [*rows, ray_row(bare.pictures, epochs, repeats, threads)] if ray else rows


def bare_alone(pictures: PictureSet, epochs: int, threads: int) -> list[float]:
    """Seconds of each epoch of the bare loop but the first; called in a process of its own."""
    torch.set_num_threads(threads)
    bare = Bare(pictures)
    return [bare.epoch() for _ in range(epochs)][1:]


def ray_row(pictures: PictureSet, epochs: int, repeats: int, threads: int) -> Row:
    """Ray's process and one of the bare loop take turns: two processes differ by some percent for as long as they live."""
    ours, loop, outside = [], [], []
    for _ in range(repeats):
        epoch, other = through_ray(pictures, epochs + 1, threads)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            loop.append(median(pool.submit(bare_alone, pictures, epochs + 1, threads).result()))
        ours.append(median(epoch))
        outside.append(other)
    what = f"step through Ray Train, 1 worker (start-up {median(outside):.0f} s excluded)"
    return _row(what, ours, loop, len(pictures) // 8, RAY_GOAL)


def _row(what: str, ours: list[float], loop: list[float], steps: int, goal: float | None) -> Row:
    told = [f"{1000 * median(column) / steps:.1f} ms/step" for column in (ours, loop)]
    return Row(what, told[0], told[1], times_faster(ours, loop), goal)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; ten minutes."""
    parser = argparse.ArgumentParser(prog="benchmarks.training", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    rows = measure(repeats=parser.parse_args(arguments).repeats)
    show(
        "Training step",
        rows,
        "deeplabv3plus with resnet18, batches of 8 at 96², all cores. Against: a bare PyTorch loop.",
    )


if __name__ == "__main__":
    main()
