"""Peak memory of the coordinator with ten times the pictures, synthetic teachers.

Each count runs in a process of its own, which does what a coordinator does before the student: transferal set from files,
the round with three sites, fusion, filter, pseudo-annotated set. Its peak (VmHWM) includes the libraries it has loaded;
the second row leaves them out.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from .common import Row, show, write_pictures
from .sites import synthetic_run

GOAL = 1.1
ROOT = Path(__file__).parent.parent


def peak(pid: int | None = None) -> int:
    """Highest resident bytes of a process so far, this one without a number. Linux's own count: `ru_maxrss` begins with the parent's."""
    status = Path(f"/proc/{pid or 'self'}/status")
    if pid is None and not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def coordinate(pictures: Path, *, count: int, size: int, sites: int, chunk: int) -> dict[str, float]:
    """In the process that is measured: a run up to the pseudo-annotated set."""
    with tempfile.TemporaryDirectory() as folder:
        before, began = peak(), perf_counter()
        run = synthetic_run(Path(folder), pictures, sites=sites, count=count, size=size, chunk=chunk)
        run.predict()
        run.fuse_and_filter()
        return {"before": before, "peak": peak(), "seconds": perf_counter() - began}


def in_child(folder: Path, count: int, size: int, sites: int, chunk: int) -> dict[str, float]:
    """`coordinate` in a fresh process."""
    pictures = write_pictures(folder / str(count) / "transferal", count, 32)
    command = [
        sys.executable,
        "-m",
        "benchmarks.memory",
        "--child",
        str(pictures),
        *map(str, (count, size, sites, chunk)),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(few: int = 500, many: int = 5000, size: int = 384, sites: int = 3, chunk: int = 54) -> list[Row]:
    """Ratios are bytes with many pictures ÷ with few."""
    with tempfile.TemporaryDirectory() as folder:
        low, high = (in_child(Path(folder), count, size, sites, chunk) for count in (few, many))
    took = f"{many} against {few} pictures at {size}² (in {high['seconds']:.0f} and {low['seconds']:.0f} s)"
    return [
        _row(f"coordinator's peak, {took}", high["peak"], low["peak"], GOAL),
        _row("the same without the loaded libraries", high["peak"] - high["before"], low["peak"] - low["before"], None),
    ]


def _row(what: str, high: float, low: float, goal: float | None) -> Row:
    """`low` is 0 where a tiny run needs no more than its imports did."""
    return Row(what, f"{high / 2**20:.0f} MiB", f"{low / 2**20:.0f} MiB", high / max(low, 1), goal, at_most=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; some minutes."""
    parser = argparse.ArgumentParser(prog="benchmarks.memory", description=__doc__)
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)  # PICTURES COUNT SIZE SITES CHUNK
    options = parser.parse_args(arguments)
    if options.child:
        folder, *numbers = options.child
        count, size, sites, chunk = map(int, numbers)
        print(json.dumps(coordinate(Path(folder), count=count, size=size, sites=sites, chunk=chunk)))
        return
    note = "Three synthetic sites, chunks of 54 pictures (8 MB). Every picture is kept: the pseudo-annotated set is as large as it gets."
    show("Coordinator memory", measure(), note)


if __name__ == "__main__":
    main()
