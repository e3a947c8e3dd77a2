"""Work on many files in threads: what takes time, decoding, lets other threads run."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nakt_fed.cores import cores

Item = TypeVar("Item")
Result = TypeVar("Result")
WORKERS = min(8, cores())


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], on_done: Callable[[int, int], None] | None = None
) -> list[Result]:
    """`work` of every item, in the items' order. `on_done` gets how many are done and how many there are."""
    results = []
    pool = ThreadPoolExecutor(WORKERS)
    try:
        for result in pool.map(work, items):
            results.append(result)
            if on_done:
                on_done(len(results), len(items))
    finally:
        pool.shutdown(cancel_futures=True)
    return results
