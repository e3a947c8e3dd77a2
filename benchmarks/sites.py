"""Does an answered chunk cost more when there are more sites? 3 sites against 100, with teachers that answer at once.

Inside: the coordinator's `Round.ask` (offer, pictures, masks: coding, checks, mask store, ledger, events) and its fusion,
filter and pseudo-annotated set. Outside: building the transferal set, and whatever carries the messages.

`--flower N` adds what Flower's simulation adds: a round of N sites with the smallest network that can answer.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from nakt_fed.codec import encode
from nakt_fed.exchange import Exchange, Reply, Request, in_turn
from nakt_fed.run import Run
from nakt_fed.student import StudentJob

from .common import Row, blobs, interleaved, show, synthetic_study, times_faster, write_pictures

GOAL = 1.2
CARD = {"network": "synthetic", "parameters": 0, "n_images": 1, "validation_dice": 1.0, "binary": False}
END = Request("hello")


class SyntheticSites:
    """Sites without networks, in turn: each answers every picture with the same soft mask, coded once per chunk length."""

    def __init__(self, names: list[str], originals: int, size: int) -> None:
        self.names, self.originals = names, originals
        mask = blobs(1, size, seed=0)
        self._coded = lru_cache(lambda count: encode(np.repeat(mask, count, axis=0)))

    def arrivals(self) -> Iterator[list[str]]:
        yield self.names

    def exchange(self, requests: Mapping[str, Iterator[Request | None]]) -> Iterator[Exchange]:
        """One request of each site in turn, as long as any has one."""
        queues = dict(requests)
        while queues:
            for name in list(queues):
                request = next(queues[name], END)
                if request is END:
                    del queues[name]
                elif request:
                    yield from in_turn(request, partial(self._asked, name))

    def _asked(self, name: str, request: Request) -> Exchange:
        began = perf_counter()
        return Exchange(name, request, self._answer(request), perf_counter() - began)

    def _answer(self, request: Request) -> Reply:
        meta: Mapping[str, Any] = request.meta
        if request.kind == "offer":
            return Reply(True, {"missing": list(range(-(-self.originals // meta["chunk"]))), "overlap": 0})
        if request.kind == "masks":
            start, stop = meta["range"]
            return Reply(True, {"manifest": meta["manifest"], "range": [start, stop]}, self._coded(stop - start))
        return Reply(True, CARD)


def no_student(job: StudentJob) -> None:
    """These runs end before the student."""


def synthetic_run(folder: Path, pictures: Path, *, sites: int, count: int, size: int, chunk: int) -> Run:
    """A run of the real coordinator over synthetic sites."""
    tables: dict[str, Any] = {"round": {"chunk_mb": chunk * size**2 / 1e6}, "filter": {"min_kept": 1}}
    study = synthetic_study(folder, sites=sites, pictures=pictures, image_size=size, **tables)
    return Run(study, folder, SyntheticSites(study.site_names, count, size), no_student)


def seconds_per_chunk(pictures: Path, *, sites: int, count: int, size: int, chunk: int) -> float:
    """Seconds of round, fusion and filter, divided by the chunks that all sites answered."""
    with tempfile.TemporaryDirectory() as folder:
        run = synthetic_run(Path(folder), pictures, sites=sites, count=count, size=size, chunk=chunk)
        run.cards = run.round.prepare(run.round.active)
        chunks = sites * len(run.transferal.masks.chunks)  # builds the transferal set, too
        began = perf_counter()
        run.round.ask([run.transferal], run.round.active)
        run.fuse_and_filter()
        return (perf_counter() - began) / chunks


def measure(
    few: int = 3, many: int = 100, count: int = 512, size: int = 96, chunk: int = 64, repeats: int = 5
) -> list[Row]:
    """The ratio is the cost of an answered chunk with many sites ÷ with few."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = write_pictures(Path(folder) / "transferal", count, 32)
        work = partial(seconds_per_chunk, pictures, count=count, size=size, chunk=chunk)
        low, high = interleaved([partial(work, sites=few), partial(work, sites=many)], repeats)
    what = f"one answered chunk of {chunk} pictures at {size}², {many} against {few} sites"
    return [Row(what, _ms(high), _ms(low), times_faster(low, high), GOAL, at_most=True)]


def _ms(seconds: list[float]) -> str:
    return f"{1000 * median(seconds):.1f} ms/chunk"


def flower(sites: int) -> list[Row]:
    """The same through Flower's simulation with networks of two channels; ratio to the coordinator alone."""
    from .round import TINY, federated_round

    with tempfile.TemporaryDirectory() as folder:
        seconds, chunks = federated_round(Path(folder), TINY, sites=sites, pictures=512, size=96)
        alone = seconds_per_chunk(Path(folder) / "transferal", sites=sites, count=512, size=96, chunk=64)
    return [
        Row(
            f"through Flower, {sites} sites",
            _ms([seconds / chunks]),
            f"{_ms([alone])} in process",
            seconds / chunks / alone,
        )
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; a minute without --flower."""
    parser = argparse.ArgumentParser(prog="benchmarks.sites", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--flower", type=int, nargs="*", default=[], help="numbers of sites; a minute each")
    options = parser.parse_args(arguments)
    rows = measure(repeats=options.repeats) + [row for sites in options.flower for row in flower(sites)]
    show("Many sites", rows, "Round, fusion and filter in one process; synthetic teachers answer at once.")


if __name__ == "__main__":
    main()
