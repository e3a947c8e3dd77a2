"""Every scheme over stored answers: fuse and filter 700 pictures of 384×384 from 5 sites, from the mask store to its pseudo masks.

Inside: reading the sites' answers, combining, the filter, writing the pseudo masks, and for `shapley` and `learned` the pass that
weighs the sites first. Outside: whatever asks the sites. Memory is that of a chunk.
"""

import argparse
import resource
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nakt_fed.nakt import pseudo_annotate
from nakt_fed.store import ChunkStore, create_stack
from nakt_fed.study.tables import FusionSpec
from nakt_fed.weightings import BUILT_IN
from nakt_fed.weightings.bound import Combiner

from .common import Row, blobs, seconds, show

GOAL, STAPLE_GOAL = 5.0, 60.0
CHUNK = 56  # pictures in 8 MB
Masks = NDArray[np.uint8]


@dataclass(frozen=True)
class Chunk:
    number: int
    ids: list[str]


@dataclass(frozen=True)
class Answers:
    """T, D and the annotated set (the first chunk, the first site being right), from one store."""

    store: ChunkStore
    sites: list[str]

    def soft(self, x: Chunk) -> bool:
        return True

    def __call__(self, x: Chunk) -> Mapping[str, Masks]:
        return {site: self.store.read(site, x.number) for site in self.sites}

    def chunks(self) -> Iterator[Mapping[str, Masks]]:
        for number in range(len(self.store.chunks)):
            yield self(Chunk(number, []))

    def annotated(self) -> Iterator[tuple[Mapping[str, Masks], Masks]]:
        first = self(Chunk(0, []))
        yield first, np.where(first[self.sites[0]] >= 128, 255, 0).astype(np.uint8)


class Written:
    """Pseudo masks go to disk, as in a run."""

    def __init__(self, store: ChunkStore) -> None:
        self.array = create_stack(store.group, "pseudo", store.count, store.size, store.chunk)
        self.chunk = store.chunk

    def update(self, x: Chunk, y: Masks, verdicts: object) -> None:
        self.array[x.number * self.chunk : x.number * self.chunk + len(y)] = y


def annotate(name: str, answers: Answers) -> None:
    """Lines 1 to 10 with this scheme."""
    cards = {site: {"n_images": 100 + k, "validation_dice": 0.8} for k, site in enumerate(answers.sites)}
    combine = Combiner(FusionSpec(weighting=name, weights=dict.fromkeys(cards, 1.0)), cards, lambda: answers)
    D = [Chunk(number, [str(i) for i in rows]) for number, rows in enumerate(answers.store.chunks)]
    pseudo_annotate(answers, D, lambda x: combine, 256.0, 2.5, Written(answers.store))


def fill(store: ChunkStore, sites: Sequence[str]) -> None:
    """Each site sees the same targets at places of its own: a chunk of blobs, drawn once and mirrored from chunk to chunk."""
    for k, site in enumerate(sites):
        drawn = blobs(min(store.chunk, 16), store.size, seed=k)
        for number, rows in enumerate(store.chunks):
            step = (-1) ** number
            store.write(site, number, drawn[np.arange(len(rows)) % len(drawn)][:, ::step])


def measure(
    sites: int = 5, pictures: int = 700, size: int = 384, repeats: int = 1, names: Sequence[str] = tuple(BUILT_IN)
) -> list[Row]:
    """One row per scheme: its seconds, those of `uniform` next to it, and the seconds against the goal."""
    with tempfile.TemporaryDirectory() as folder:
        store = ChunkStore(Path(folder) / "masks.zarr", pictures, size, CHUNK)
        answers = Answers(store, [f"site-{k}" for k in range(sites)])
        fill(store, answers.sites)
        annotate("uniform", answers)  # warm
        rows = []
        for name in names:
            uniform = min(seconds(lambda: annotate("uniform", answers)) for _ in range(repeats))
            own = min(seconds(lambda name=name: annotate(name, answers)) for _ in range(repeats))  # type: ignore[misc]
            words = f"uniform {uniform:.2f} s, ratio {own / uniform:.1f}"
            goal = STAPLE_GOAL if name == "staple" else GOAL
            rows.append(Row(name, f"{own:.2f} s", words, own, goal, at_most=True))
        return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; two minutes."""
    parser = argparse.ArgumentParser(prog="benchmarks.weighting", description=__doc__)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--schemes", nargs="+", choices=BUILT_IN, default=list(BUILT_IN))
    options = parser.parse_args(arguments)
    rows = measure(repeats=options.repeats, names=options.schemes)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    note = f"The column ratio has the seconds, against the goal. Highest memory of the process: {most:.0f} MB."
    show("Schemes of weighting: 700 pictures of 384×384 from 5 sites", rows, note)


if __name__ == "__main__":
    main()
