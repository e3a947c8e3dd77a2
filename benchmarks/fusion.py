"""Fuse and filter a chunk, against float32 and np.histogram.

Inside: from the sites' uint8 masks in memory to pseudo masks and one verdict per picture (N, E). Outside: reading the
mask store and writing its pseudo masks; they are measured in the second row, where the plain loop reads the same store.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from nakt_fed.filtering import Verdict, judge
from nakt_fed.fusion import fixed_point, fuse
from nakt_fed.store import ChunkStore

from .common import Row, blobs, interleaved, seconds, show, times_faster

Masks = Mapping[str, NDArray[np.uint8]]
GOAL = 5.0
ALPHA, BETA = 256.0, 2.5


def ours(soft: Masks) -> list[Verdict]:
    """Lines 2 to 9 of Algorithm 1, as `nakt.pseudo_annotate` does them."""
    y = fuse(soft, fixed_point(dict.fromkeys(soft, 1.0)))
    return judge([str(i) for i in range(len(y))], y, ALPHA, BETA)


def plain(soft: Masks) -> list[tuple[int, float, bool]]:
    """The same in NumPy as one writes it first: a float32 stack, its mean, a histogram per picture."""
    y = np.stack([masks.astype(np.float32) / 255 for masks in soft.values()]).mean(axis=0)
    verdicts = []
    for picture in y:
        n = int((picture > 0.5).sum())
        counts, _ = np.histogram(picture, bins=256, range=(0, 1))
        p = counts[counts > 0] / picture.size
        e = float(-(p * np.log2(p)).sum())
        verdicts.append((n, e, n >= ALPHA and e <= BETA))
    return verdicts


def compare(what: str, read: Callable[[], Masks], pictures: int, repeats: int, goal: float | None) -> Row:
    fast, slow = interleaved([lambda: seconds(lambda: ours(read())), lambda: seconds(lambda: plain(read()))], repeats)
    ms = [f"{1000 * median(column) / pictures:.2f} ms/picture" for column in (fast, slow)]
    return Row(what, ms[0], ms[1], times_faster(fast, slow), goal)


def measure(sites: int = 5, pictures: int = 64, size: int = 384, repeats: int = 9) -> list[Row]:
    """One chunk of `pictures` from `sites` sites."""
    soft = {f"site-{k}": blobs(pictures, size, seed=k) for k in range(sites)}
    with tempfile.TemporaryDirectory() as folder:
        store = ChunkStore(Path(folder) / "masks.zarr", pictures, size, pictures)
        for site, masks in soft.items():
            store.write(site, 0, masks)
        return [
            compare(f"fuse + filter, {sites} sites, {size}²", lambda: soft, pictures, repeats, GOAL),
            compare(
                "the same, read from the store", lambda: {k: store.read(k, 0) for k in soft}, pictures, repeats, None
            ),
        ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; seconds."""
    parser = argparse.ArgumentParser(prog="benchmarks.fusion", description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    rows = measure(repeats=parser.parse_args(arguments).repeats)
    note = "Against: NumPy float32 stack, mean, `np.histogram`. One process, one chunk of 64 pictures."
    show("Fuse and filter", rows, note)


if __name__ == "__main__":
    main()
