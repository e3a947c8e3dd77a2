"""A federation of real processes on loopback, as the kits make it: coordinator, sites, runs. All of it ends with its block."""

import json
import os
import shutil
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import tomli_w
import torch
from torch import nn

from nakt_fed.checkpoint import save_checkpoint
from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.flower_environment import free_port
from nakt_fed.processes import below
from nakt_fed.provision.kits import provision
from nakt_fed.study import NetworkSpec, Study
from nakt_fed.study_file import parse_study
from nakt_fed.teacher import fresh_network
from server.flower import script
from tests.watch import command, family, survivors

SIZE, WIDTH = 32, 4
HERE = Path(__file__).parent
RAW: dict[str, Any] = {
    "study": {"name": "tiny", "seed": 3, "image_size": SIZE},
    "transferal": {"views": 0},
    "filter": {"max_entropy": 8.0, "min_target_pixels": 0, "min_kept": 2},
    "round": {"chunk": 2},
    "student": {"network": "unet", "width": WIDTH, "epochs": 1, "batch_size": 4},
    "resources": {"site_threads": 1, "student_threads": 1, "sites_at_once": 1},
}


def wait_for(what: Callable[[], Any], seconds: float, words: str = "it") -> Any:
    """What it gives, once that is true."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"{words} did not come within {seconds:.0f} s"
        time.sleep(0.05)
    return found


@dataclass
class Started:
    """A command of nakt that stays, with what it said."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str, seconds: float = 60, count: int = 1) -> None:
        def come() -> bool:
            assert self.process.poll() is None or words in self.said, self.said[-3000:]
            return self.said.count(words) >= count

        wait_for(come, seconds, f"{words!r} in {self.said[-3000:]}")

    def find(self, words: str) -> list[int]:
        """The processes below it with these words in their command; guards, which carry the same words, left out."""
        ours = [pid for pid in below(self.process.pid) if words in command(pid)]
        return [pid for pid in ours if "processes.py" not in command(pid)]

    def kill(self, words: str, seconds: float = 30) -> None:
        """SIGKILL to the one process with these words."""
        for pid in wait_for(lambda: self.find(words), seconds, words):
            os.kill(pid, signal.SIGKILL)

    def signal_all(self, number: int) -> None:
        for pid in [self.process.pid, *below(self.process.pid)]:
            os.kill(pid, number)


@dataclass
class Running(Started):
    """`nakt run`; its run folder."""

    @property
    def folder(self) -> Path:
        def told() -> list[str]:
            assert self.process.poll() is None or "\nrun /" in self.said, self.said
            return [line for line in self.said.splitlines() if line.startswith("run /")]

        return Path(wait_for(told, 60, "the run's folder")[0].removeprefix("run "))

    def answered(self) -> list[tuple[str, str, int]]:
        return answered(self.folder)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in lines(self.folder / "events.jsonl") if event["kind"] == kind]

    def wait_for_answers(self, count: int, seconds: float = 120) -> None:
        def come() -> bool:
            assert self.process.poll() is None, self.said[-3000:]
            return len(self.answered()) >= count

        wait_for(come, seconds, f"{count} answers, {self.said[-2000:]}")

    def wait_for_fusion(self, seconds: float = 120) -> None:
        def come() -> bool:
            stages = [(event["name"], event["state"]) for event in self.events("stage")]
            assert self.process.poll() is None or ("fusion", "done") in stages, self.said[-3000:]
            return ("fusion", "done") in stages

        wait_for(come, seconds, "the fusion")

    def end(self, how: int = signal.SIGINT) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


def lively(network: nn.Module) -> nn.Module:
    """Without training a network says nearly the same everywhere; stretched, its masks differ from pixel to pixel."""
    pictures = torch.from_numpy(synthetic_set(4, SIZE, seed=0).images)[:, None] / 255
    *_, weight, bias = network.eval().parameters()
    with torch.no_grad():
        logits = network(pictures) - bias
        weight.mul_(2 / logits.std())
        bias.copy_(-2 * logits.mean() / logits.std())
    return network


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"}\n")]


def answered(run: Path) -> list[tuple[str, str, int]]:
    """(site, set, chunk) of every good answer with masks, in the order in which they came."""
    rows = [row for row in lines(run / "ledger.jsonl") if (row["kind"], row["outcome"]) == ("masks", "ok")]
    return [(row["site"], row["set"], row["chunk"]) for row in rows]


@dataclass
class Federation:
    """`pause`: seconds that a teacher takes per batch. Sites approve automatically unless `policy` says otherwise."""

    root: Path
    names: tuple[str, ...] = ("ann", "bob")
    pause: float = 0.2
    policy: dict[str, dict[str, Any]] = field(default_factory=dict)
    started: list[Started] = field(default_factory=list)
    known: dict[int, int] = field(default_factory=dict)

    def __enter__(self) -> Self:
        (self.root / "lib").mkdir(parents=True)
        shutil.copy(HERE / "slow_teacher.py", self.root / "lib")
        sites = "".join(f'[[site]]\nname = "{name}"\n' for name in self.names)
        (self.root / "federation.toml").write_text(
            f'[federation]\nname = "test"\nimage_size = {SIZE}\n'
            f'[coordinator]\nhost = "127.0.0.1"\nport = {free_port()}\n{sites}'
        )
        provision(self.root / "federation.toml", self.root / "kits")
        for seed, name in enumerate(self.names):
            self._settle(name, seed)
        return self

    def _settle(self, name: str, seed: int) -> None:
        """The kit in the hospital's own folder, with a teacher that was never trained; twice: quick for the oracle."""
        site = self.root / name
        shutil.copytree(self.root / "kits" / name, site)
        network = lively(fresh_network(NetworkSpec(network="unet", width=WIDTH), seed))
        for stem, kind in (("quick", "unet"), ("teacher", "slow_teacher:unet")):
            save_checkpoint(
                site / f"{stem}.safetensors",
                network,
                NetworkSpec(network=kind, width=WIDTH),
                n_images=5,
                image_size=SIZE,
            )
        write_folder(synthetic_set(4, SIZE, seed=100 + seed), site / "private")
        raw = tomllib.loads((site / "site.toml").read_text())
        raw["site"]["threads"] = 1
        raw["teacher"] = {"network": "slow_teacher:unet", "width": WIDTH, "checkpoint": "teacher.safetensors"}
        raw["private"] = {"images": "private/images", "masks": "private/masks"}
        raw["policy"] |= {"approval": "automatic", **self.policy.get(name, {})}
        (site / "site.toml").write_text(tomli_w.dumps(raw))

    def __exit__(self, *_: object) -> None:
        self.look()
        for each in reversed(self.started):
            if each.process.poll() is None:
                each.signal_all(signal.SIGCONT)
                each.process.terminate()
        for each in self.started:
            each.process.wait(60)
        left = survivors(self.known, patience=20)
        assert not left, left

    def look(self) -> None:
        """Remember who was started, to find who is left."""
        for each in self.started:
            if each.process.poll() is None:
                self.known |= family(each.process.pid)

    def env(self, name: str) -> dict[str, str]:
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("FLWR_")},
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self.root / "lib"), os.environ.get("PYTHONPATH")])),
            "NAKT_TEST_MARK": str(self.mark(name)),
            "NAKT_TEST_PAUSE": str(self.pause),
        }

    def mark(self, name: str) -> Path:
        """Touched when the site's teacher begins."""
        return self.root / f"{name}.begins"

    def _start(self, kind: type[Started], name: str, *arguments: object) -> Any:
        self.look()
        log = self.root / f"{name}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [script("nakt"), *map(str, arguments)], env=self.env(name), stdout=sink, stderr=sink, cwd=self.root
            )
        self.started.append(kind(process, log))
        return self.started[-1]

    def nakt(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """A command that ends by itself."""
        words = [script("nakt"), *map(str, arguments)]
        return subprocess.run(words, env=self.env("nakt"), cwd=self.root, capture_output=True, text=True, timeout=60)

    @property
    def kit(self) -> Path:
        return self.root / "kits" / "coordinator"

    def site(self, name: str) -> Path:
        return self.root / name / "site.toml"

    def start_coordinator(self) -> Started:
        """Started and all sites registered: a SuperNode that comes earlier is sent away."""
        started: Started = self._start(Started, "coordinator", "coordinator", "start", self.kit, "--direct")
        for name in self.names:
            started.wait_for(f"site {name} may come")
        return started

    def start_sites(self, *names: str) -> dict[str, Started]:
        """Together, and ready when this returns."""
        sites: dict[str, Started] = {
            name: self._start(Started, name, "site", "start", self.site(name)) for name in names
        }
        for each in sites.values():
            each.wait_for("SuperNode dials")
        return sites

    def start_all(self) -> dict[str, Started]:
        """By name; the coordinator is called so."""
        return {"coordinator": self.start_coordinator(), **self.start_sites(*self.names)}

    def write_study(self, name: str, pictures: int, seed: int = 0, **tables: dict[str, Any]) -> Path:
        """The coordinator's study over new pictures; each keyword replaces keys of a table."""
        write_folder(synthetic_set(pictures, SIZE, seed=1000 + seed), self.root / f"{name}-pictures")
        raw = self._raw(name, **tables) | {"site": [{"name": site} for site in self.names]}
        path = self.root / f"{name}.toml"
        path.write_text(tomli_w.dumps(raw))
        return path

    def _raw(self, name: str, **tables: dict[str, Any]) -> dict[str, Any]:
        raw = {key: {**table, **tables.get(key, {})} for key, table in RAW.items()}
        raw["transferal"] |= {"images": [f"{name}-pictures/images"]}
        return raw

    def local_study(self, name: str, **tables: dict[str, Any]) -> Study:
        """The same study and the same weights, for the oracle."""
        sites = [
            {
                "name": site,
                "images": f"{site}/private/images",
                "masks": f"{site}/private/masks",
                "teacher": {"network": "unet", "width": WIDTH, "checkpoint": f"{site}/quick.safetensors"},
            }
            for site in self.names
        ]
        return parse_study(self._raw(name, **tables) | {"site": sites}, self.root)

    def run(self, study: Path, *more: object) -> Running:
        number = sum(isinstance(each, Running) for each in self.started)
        words = ("run", study, "--federation", self.kit, "--runs", self.root / "runs", *more)
        running: Running = self._start(Running, f"run-{number}", *words)
        return running

    def resume(self, run: Path) -> Running:
        number = sum(isinstance(each, Running) for each in self.started)
        running: Running = self._start(Running, f"run-{number}", "run", "--resume", run, "--federation", self.kit)
        return running
