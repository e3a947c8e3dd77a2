"""A federation of real processes on loopback, as the kits make it: coordinator, sites, runs. All of it ends with its block."""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from nakt_fed.flower_environment import free_port
from nakt_fed.provision.kits import provision
from nakt_fed.study import Study
from server.flower import script
from tests.deployment.hospitals import SIZE, settle
from tests.deployment.running import Running, Started
from tests.deployment.studies import local_study, write_study
from tests.watch import family, survivors

HERE = Path(__file__).parent


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
            settle(self.root / "kits" / name, self.root / name, seed, self.policy.get(name, {}))
        return self

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
        return write_study(self.root, self.names, name, pictures, seed, **tables)

    def local_study(self, name: str, **tables: dict[str, Any]) -> Study:
        return local_study(self.root, self.names, name, **tables)

    def run(self, study: Path, *more: object) -> Running:
        number = sum(isinstance(each, Running) for each in self.started)
        words = ("run", study, "--federation", self.kit, "--runs", self.root / "runs", *more)
        running: Running = self._start(Running, f"run-{number}", *words)
        return running

    def resume(self, run: Path) -> Running:
        number = sum(isinstance(each, Running) for each in self.started)
        running: Running = self._start(Running, f"run-{number}", "run", "--resume", run, "--federation", self.kit)
        return running
