"""A deployment on loopback with TLS and SuperNode authentication, against a naive Flower app between the same processes.

Inside: from the first offer to the last mask in the coordinator's store (stage "masks" of events.jsonl), that is manifest,
pictures to every site, answers, coding, Flower, policy gate, receipts, checks, mask store. Outside: start-up of the
processes and of the run, preparing the pictures, loading the teachers. The naive app: uint8 arrays, 256 pictures a message,
all messages queued at once, torch imported and the teacher loaded for every message; from its first message to its last
reply. Both: the same pictures and the same teacher, which costs little.

Peak memory (VmHWM) is read from outside, of a federation of its own for each count.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray
from PIL import Image

from nakt_fed.checkpoint import save_checkpoint
from nakt_fed.data.synthetic import synthetic_set
from nakt_fed.errors import RunError
from nakt_fed.events import follow
from nakt_fed.ledger import Ledger
from nakt_fed.processes import below
from nakt_fed.recipe import NetworkSpec
from simulation.loopback import Loopback, bundle_sha256, wait_for

from .common import KEEPS_NOTHING, Row, interleaved, show, times_faster
from .memory import peak
from .teacher import smooth

GOAL, MEMORY_GOAL = 3.0, 1.1
DRAWN = 200  # pictures at most; to draw one takes longer than to exchange it
ROOT = Path(__file__).parent.parent
NAIVE = ROOT / "benchmarks" / "naive"
NAIVE_SETTINGS: dict[str, str | int] = {"pictures": "", "teacher": "", "sites": 0, "out": ""}
TEACHER = NetworkSpec(network="benchmarks.teacher:smooth")
PARTS = {"SuperLink": "server.superlink", "coordinator's app": "flwr-serverapp"}


def pictures(count: int, size: int) -> NDArray[np.uint8]:
    """(count, size, size) uint8 like ultrasound, all different: DRAWN are drawn, the others are these, shifted."""
    drawn = synthetic_set(min(count, DRAWN), size, seed=0).images
    return np.stack([np.roll(drawn[row % DRAWN], 13 * (row // DRAWN), axis=1) for row in range(count)])


@dataclass
class Between(Loopback):
    """Sites with the synthetic teacher, a set of pictures, and the study about them, which ends after the round."""

    count: int = 1000
    peaks: dict[str, int] = field(default_factory=dict)

    def settle(self, number: int, name: str, raw: dict[str, Any]) -> None:
        path = self.root / name / "teacher.safetensors"
        save_checkpoint(path, smooth(), TEACHER, n_images=5, image_size=self.image_size)
        raw["teacher"] = {"network": TEACHER.network, "checkpoint": path.name}
        apps = [*raw["policy"]["apps"], bundle_sha256(NAIVE, NAIVE_SETTINGS)]
        raw["policy"] |= {"apps": apps, "pictures_per_day": 10**6, "pictures_per_set": 10**6}
        raw["site"]["threads"] = 1
        raw.pop("private", None)

    def env(self, name: str) -> dict[str, str]:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        return {**super().env(name), "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def write(self) -> None:
        """The transferal pictures as files and, for the naive app, as one array."""
        stack = pictures(self.count, self.image_size)
        np.save(self.root / "pictures.npy", stack)
        (self.root / "transferal").mkdir()
        for row, picture in enumerate(stack):
            Image.fromarray(picture).save(self.root / "transferal" / f"{row:05d}.png", compress_level=1)

    def study(self, number: int, **tables: dict[str, Any]) -> Path:
        """The pictures below another folder each time, so under other ids: the sites know nothing from before."""
        place = self.root / f"transferal-{number}"
        place.mkdir()
        for picture in (self.root / "transferal").iterdir():
            (place / picture.name).hardlink_to(picture)
        raw = {
            "study": {"name": f"benchmark-{number}", "image_size": self.image_size},
            "site": [{"name": name} for name in self.names],
            "transferal": {"images": [place.name], "views": 0},
            "filter": KEEPS_NOTHING,
            "student": {"network": "unet", "width": 4},
            **tables,
        }
        path = self.root / f"study-{number}.toml"
        path.write_text(tomli_w.dumps(raw))
        return path

    def ours(self, number: int, again: bool = False, **tables: dict[str, Any]) -> Path:
        """Carry the round out; returns the run's folder. `again`: in another run, about the pictures of the same number."""
        runs = self.root / f"runs-{number}{'-again' * again}"
        path = self.root / f"study-{number}.toml" if again else self.study(number, **tables)
        running = self.start(self.kind, f"run-{number}", "run", path, "--federation", self.kit, "--runs", runs)
        while running.process.poll() is None:
            self.look()
            with suppress(Exception):
                running.process.wait(0.2)
        found = list(runs.glob("*/events.jsonl"))
        if not found:
            raise RunError(f"no run took place:\n{running.said[-2000:]}")
        return found[0].parent

    def look(self) -> None:
        """Remember the peaks of the coordinator's processes so far."""
        for pid in below(self.started[0].process.pid):
            with suppress(OSError, StopIteration):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
                part = next(part for part, word in PARTS.items() if word in command and "processes.py" not in command)
                self.peaks[part] = max(self.peaks.get(part, 0), peak(pid))


def seconds_of_round(run: Path, sites: int, count: int) -> float:
    """Seconds of the stage "masks". Raises RunError: an answer is missing."""
    answered = [
        line for line in Ledger(run / "ledger.jsonl").lines() if (line["kind"], line["outcome"]) == ("masks", "ok")
    ]
    stages = [event for event in follow(run / "events.jsonl", lambda: True) if event["kind"] == "stage"]
    took = [float(event["seconds"]) for event in stages if (event["name"], event["state"]) == ("masks", "done")]
    if not took or sum(line["pictures"] for line in answered) != sites * count:
        raise RunError(f"the round in {run} did not end; its flower.log and the logs beside it say why")
    return took[0]


def naive(federation: Between, number: int) -> float:
    """Seconds of the naive app's exchange."""
    out = federation.root / f"naive-{number}.json"
    settings: dict[str, str | int] = NAIVE_SETTINGS | {
        "pictures": str(federation.root / "pictures.npy"),
        "teacher": str(federation.root / federation.names[0] / "teacher.safetensors"),
        "sites": len(federation.names),
        "out": str(out),
    }
    federation.submit(NAIVE, settings)
    wait_for(lambda: out.exists() and out.read_text().endswith("}"), 600, "the naive app's end")
    told = json.loads(out.read_text())
    if told["masks"] != len(federation.names) * federation.count:
        raise RunError(f"the naive app got {told['masks']} masks")
    return float(told["seconds"])


def names(sites: int) -> tuple[str, ...]:
    return tuple(f"site-{number}" for number in range(sites))


def measure(sites: int = 3, count: int = 1000, size: int = 384, repeats: int = 2) -> list[Row]:
    """The ratio is our pictures/s ÷ the naive app's. Every picture is answered by every site."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Between(Path(folder) / "f", names(sites), size, count=count) as between,
    ):
        between.write()
        between.start_all()
        numbers = iter(range(10**6))

        def once() -> float:
            return seconds_of_round(between.ours(next(numbers)), sites, count)

        ours, plain = interleaved([once, lambda: naive(between, next(numbers))], repeats, warm_up=False)
    rates = [f"{count / median(column):.1f} pictures/s ({median(column):.1f} s)" for column in (ours, plain)]
    what = f"deployment, {sites} sites × {count} pictures at {size}², TLS on loopback"
    return [Row(what, rates[0], rates[1], times_faster(ours, plain), GOAL)]


def peaks(count: int, sites: int, size: int) -> dict[str, int]:
    """Bytes of the SuperLink and of the coordinator's app at their highest, in a federation of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Between(Path(folder) / "f", names(sites), size, count=count) as between,
    ):
        between.write()
        between.start_all()
        seconds_of_round(between.ours(0), sites, count)
        return between.peaks


def measure_memory(few: int = 500, many: int = 5000, size: int = 384, sites: int = 3) -> list[Row]:
    """Ratios are peak bytes with many pictures ÷ with few."""
    low, high = (peaks(count, sites, size) for count in (few, many))
    what = f"{many} against {few} pictures at {size}², {sites} sites"
    mib = partial("{:.0f} MiB".format)
    return [
        Row(
            f"{part}'s peak, {what}",
            mib(high[part] / 2**20),
            mib(low[part] / 2**20),
            high[part] / low[part],
            MEMORY_GOAL,
            True,
        )
        for part in PARTS
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables; ten minutes."""
    parser = argparse.ArgumentParser(prog="benchmarks.deployment", description=__doc__)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", choices=["speed", "memory"], help="one of the two tables")
    options = parser.parse_args(arguments)
    if options.only != "memory":
        show("Deployment", measure(repeats=options.repeats), "Against: a naive Flower app, see the module's docstring.")
    if options.only != "speed":
        show(
            "Memory of a deployment",
            measure_memory(),
            "Peak resident bytes (VmHWM) of the process, libraries included.",
        )


if __name__ == "__main__":
    main()
