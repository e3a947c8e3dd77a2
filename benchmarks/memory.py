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


def peak() -> int:
    """Highest resident bytes of this process so far. Linux's own count: `ru_maxrss` begins with the parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
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
    command = [sys.executable, "-m", __name__, "--child", str(pictures), *map(str, (count, size, sites, chunk))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(few: int = 500, many: int = 5000, size: int = 384, sites: int = 3, chunk: int = 64) -> list[Row]:
    """Ratios are bytes with many pictures ÷ with few."""
    with tempfile.TemporaryDirectory() as folder:
        low, high = (in_child(Path(folder), count, size, sites, chunk) for count in (few, many))
    own = [(run["peak"] - run["before"]) for run in (high, low)]
    what = f"coordinator's peak, {many} against {few} pictures at {size}²"
    return [
        Row(what, _mb(high["peak"], high["seconds"]), _mb(low["peak"], low["seconds"]), high["peak"] / low["peak"], GOAL, at_most=True),
        Row("the same without the loaded libraries", _mb(own[0]), _mb(own[1]), own[0] / own[1]),
    ]


def _mb(size: float, seconds: float | None = None) -> str:
    return f"{size / 2**20:.0f} MiB" + (f" ({seconds:.0f} s)" if seconds else "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; some minutes."""
    parser = argparse.ArgumentParser(prog="benchmarks.memory", description=__doc__)
    parser.add_argument("--child", nargs=5, metavar=("PICTURES", "COUNT", "SIZE", "SITES", "CHUNK"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        folder, *numbers = options.child
        count, size, sites, chunk = map(int, numbers)
        print(json.dumps(coordinate(Path(folder), count=count, size=size, sites=sites, chunk=chunk)))
        return
    show("Coordinator memory", measure(), "Three synthetic sites, chunks of 64. Every picture is kept, so the pseudo-annotated set is as large as it gets.")


if __name__ == "__main__":
    main()
