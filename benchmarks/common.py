"""What every benchmark needs: interleaved timing, the table with its goals, synthetic studies."""

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nakt_fed.cores import cores
from nakt_fed.study import Study
from nakt_fed.study.file import dump_study, parse_study

KEEPS_NOTHING = {"min_target_pixels": 384**2, "min_kept": 1}
"""A [filter] by which a study ends after its round: no picture is all target."""


@dataclass(frozen=True)
class Row:
    """One line of a table. `ratio` compares ours with what stands in `against`; a `goal` is its least or, with `at_most`, greatest value."""

    what: str
    ours: str
    against: str
    ratio: float
    goal: float | None = None
    at_most: bool = False

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        met = self.ratio <= self.goal if self.at_most else self.ratio >= self.goal
        return f"{'≤' if self.at_most else '≥'} {self.goal:g} {'met' if met else 'MISSED'}"


def show(title: str, rows: Iterable[Row], note: str) -> None:
    """Print a Markdown table, with what was and was not measured below it."""
    print(f"\n### {title}\n\n| what | ours | against | ratio | goal |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.ours} | {row.against} | {row.ratio:.3g} | {row.verdict} |")
    print(f"\n{note} {machine()}", flush=True)


def machine() -> str:
    """Cores, and how busy they are: above the number of cores somebody else is measuring too."""
    return f"({platform.machine()}, {cores()} cores, load {os.getloadavg()[0]:.1f} at the end.)"


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = perf_counter()
    work()
    return perf_counter() - began


def interleaved(works: Sequence[Callable[[], float]], repeats: int, warm_up: bool = True) -> list[list[float]]:
    """Let each work measure itself `repeats` times in turn, so that a busy machine slows all of them alike; a list per work."""
    if warm_up:
        for work in works:
            work()
    rounds = [[work() for work in works] for _ in range(repeats)]
    return [list(column) for column in zip(*rounds, strict=True)]


def times_faster(ours: Sequence[float], plain: Sequence[float]) -> float:
    """Median over the repetitions of plain ÷ ours, two neighbours at a time."""
    return statistics.median(b / a for a, b in zip(ours, plain, strict=True))


def blobs(n: int, size: int, seed: int, softness: float = 0.02) -> NDArray[np.uint8]:
    """Soft masks (n, size, size) uint8 like a teacher's: a disc whose edge is a sigmoid, `softness` of the side wide."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    distance = [np.hypot(x - u, y - v) - r for u, v, r in rng.uniform((0.3, 0.3, 0.1), (0.7, 0.7, 0.25), (n, 3))]
    return np.stack([np.rint(255 / (1 + np.exp(np.clip(d / softness, -40, 40)))).astype(np.uint8) for d in distance])


def write_pictures(folder: Path, n: int, size: int, seed: int = 0) -> Path:
    """`n` different pictures of noise as PNG; they are quick to write, and cost as much as others from then on."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(n):
        Image.fromarray(rng.integers(0, 256, (size, size), np.uint8)).save(
            folder / f"{number:05d}.png", compress_level=1
        )
    return folder


RESNET: dict[str, Any] = {"network": "panoptic_fpn", "encoder": "resnet18"}


def synthetic_study(
    folder: Path,
    *,
    sites: int,
    pictures: Path,
    image_size: int,
    network: Mapping[str, Any] = RESNET,
    **tables: dict[str, Any],
) -> Study:
    """A study whose sites load `folder`/teacher-<0 to 2>.safetensors, with these `tables`; also written to `folder`/study.toml."""
    private = write_pictures(folder / "private" / "images", 2, 32, seed=1)
    raw = {
        "study": {"name": "benchmark", "image_size": image_size},
        "site": [
            {
                "name": f"site-{k}",
                "images": str(private),
                "teacher": {**network, "checkpoint": f"teacher-{k % 3}.safetensors"},
            }
            for k in range(sites)
        ],
        "transferal": {"images": [str(pictures)], "views": 0},
        "student": {"network": "deeplabv3plus", "encoder": "resnet18"},
        **tables,
    }
    study = parse_study(raw, folder)
    (folder / "study.toml").write_text(dump_study(study), encoding="utf-8")
    return study
