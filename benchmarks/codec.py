"""Bytes per mask on the wire: JPEG-LS against float32, zstd and PNG, on soft masks that trained teachers answered.

`--run RUN` takes the masks of a finished run. Without it a teacher is trained on the embedded demo pictures for about a
minute; its answers to the demo's transferal pictures are softer, and so larger, than those of a teacher that had longer.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import imagecodecs
import numpy as np
import zarr
from numpy.typing import NDArray

import nakt_fed
from nakt_fed.codec import decode, encode
from nakt_fed.data.folders import load_annotated, load_pictures
from nakt_fed.errors import RunError
from nakt_fed.predict import soft_masks
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.teacher import fresh_network
from nakt_fed.train import fit
from nakt_fed.training_state import EpochLog

from .common import RESNET, Row, interleaved, seconds, show

Masks = NDArray[np.uint8]
GOAL = 20.0
DEMO = Path(nakt_fed.__file__).parent / "demo" / "data"
CHUNK = 64  # masks that are coded together
MOST = 16  # chunks per site that are looked at


def masks_of_run(run: Path) -> Masks:
    """Up to MOST answered chunks of each site, evenly over the transferal set, (n, H, W) uint8."""
    group = zarr.open_group(str(run / "masks.zarr"), mode="r")
    parts = []
    for name, stack in group["masks"].arrays():  # type: ignore[union-attr]
        done: Any = group[f"masks_done/{name}"][:]  # type: ignore[index]
        chunks = [
            slice(start, start + CHUNK) for start in range(0, len(done), CHUNK) if done[start : start + CHUNK].all()
        ]
        parts += [np.asarray(stack[chunk]) for chunk in chunks[:: max(1, -(-len(chunks) // MOST))]]
    if not parts:
        raise RunError(f"{run} holds no answered mask yet; give a run that got past its masks")
    return np.concatenate(parts)


class _TimeIsUp(Exception):
    pass


def masks_of_demo(size: int, budget: float, spec: NetworkSpec) -> Masks:
    """Answers of a teacher trained for `budget` seconds (at least one epoch) on the demo's first site."""
    ends = perf_counter() + budget

    def stop(log: EpochLog) -> None:
        if perf_counter() > ends:
            raise _TimeIsUp

    teacher = fresh_network(spec, seed=7)
    train = load_annotated(DEMO / "logiq7" / "images", DEMO / "logiq7" / "masks", size)
    with tempfile.TemporaryDirectory() as folder, suppress(_TimeIsUp):
        fit(teacher, train, Recipe(epochs=1000, schedule="constant"), folder=Path(folder), seed=7, on_epoch=stop)
    folders = [DEMO / "transferal" / name / "images" for name in ("nerve", "skin")]
    return soft_masks(teacher, load_pictures(folders, size).images)


def each(coder: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    """Apply it mask by mask."""
    return lambda frames: [coder(frame) for frame in frames]


def wire(near: int, size: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """The wire codec, CHUNK masks at a time as they cross."""

    def pack(masks: Masks) -> list[tuple[int, bytes]]:
        parts = [masks[start : start + CHUNK] for start in range(0, len(masks), CHUNK)]
        return [(len(part), encode(part, near)) for part in parts]

    return pack, lambda coded: [decode(blob, (count, size, size)) for count, blob in coded]


def codecs(size: int) -> dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]:
    """Name -> (encode, decode) of a stack of masks. zstd and PNG at their libraries' default levels."""
    return {
        "JPEG-LS, lossless": wire(0, size),
        "JPEG-LS, near = 1": wire(1, size),
        "zstd": (each(imagecodecs.zstd_encode), each(imagecodecs.zstd_decode)),
        "PNG": (each(imagecodecs.png_encode), each(imagecodecs.png_decode)),
    }


def measure(masks: Masks, repeats: int = 5) -> list[Row]:
    """The ratio is bytes as float32 ÷ coded bytes. masks: (n, H, W) uint8."""
    table = codecs(masks.shape[1])
    coded = {name: pack(masks) for name, (pack, _) in table.items()}
    packing = interleaved([partial(seconds, partial(pack, masks)) for pack, _ in table.values()], repeats)
    opening = [partial(seconds, partial(unpack, coded[name])) for name, (_, unpack) in table.items()]
    rows: list[Row] = []
    for name, *columns in zip(coded, packing, interleaved(opening, repeats), strict=True):
        size = _length(coded[name])
        speeds = [f"{masks.nbytes / 1e6 / median(column):.0f}" for column in columns]
        told = f"{size / len(masks):,.0f} bytes, {8 * size / masks.size:.2f} bits/pixel; {speeds[0]} MB/s in, {speeds[1]} MB/s out"
        rows.append(Row(name, told, f"{4 * masks[0].size:,} bytes", 4 * masks.size / size, GOAL if not rows else None))
    return rows


def _length(coded: Sequence[bytes | tuple[int, bytes]]) -> int:
    return sum(len(frame if isinstance(frame, bytes) else frame[1]) for frame in coded)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.codec", description=__doc__)
    parser.add_argument("--run", type=Path, help="a run folder, for its masks.zarr")
    parser.add_argument("--size", type=int, default=96, help="pixels, without --run")
    parser.add_argument("--budget", type=float, default=60, help="seconds of training, without --run")
    options = parser.parse_args(arguments)
    masks = (
        masks_of_run(options.run) if options.run else masks_of_demo(options.size, options.budget, NetworkSpec(**RESNET))
    )
    source = f"the run {options.run.name}" if options.run else f"a demo teacher trained for {options.budget:.0f} s"
    note = f"{len(masks)} soft masks {masks.shape[1]}² of {source}. Ratio: bytes of float32 ÷ bytes here."
    show("Bytes per mask", measure(masks), note)


if __name__ == "__main__":
    main()
