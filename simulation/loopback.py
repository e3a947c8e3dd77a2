"""A deployment on one machine: coordinator and sites as real processes over TLS, from the kits that `nakt provision` makes."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import tomli_w

from nakt_fed.errors import RunError
from nakt_fed.flower_environment import free_port
from nakt_fed.provision.kits import provision
from server.client import Client
from server.fab import built
from server.flower import script, write
from server.kit import load_kit


def wait_for(what: Callable[[], Any], seconds: float, words: str = "it") -> Any:
    """What it gives, once that is true. Raises RunError when it is not within `seconds`."""
    end = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > end:
            raise RunError(f"{words} did not come within {seconds:.0f} s; look into the logs beside it")
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
        """Raises RunError when it ends before, or does not say it within `seconds`."""

        def come() -> bool:
            said, ended = self.said, self.process.poll() is not None
            if ended and words not in said:
                raise RunError(f"it ended before it said {words!r}:\n{said[-3000:]}")
            return said.count(words) >= count

        wait_for(come, seconds, f"{words!r} in {self.said[-3000:]}")


@dataclass
class Loopback:
    """One folder per party below `root`; every process ends with the block. `kind` is what a started command becomes."""

    root: Path
    names: tuple[str, ...] = ("ann", "bob")
    image_size: int = 32
    kind: type[Started] = Started
    port: int = field(default_factory=free_port)
    started: list[Started] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        sites = "".join(f'[[site]]\nname = "{name}"\n' for name in self.names)
        (self.root / "federation.toml").write_text(
            f'[federation]\nname = "test"\nimage_size = {self.image_size}\n'
            f'[coordinator]\nhost = "127.0.0.1"\nport = {self.port}\n{sites}'
        )
        provision(self.root / "federation.toml", self.root / "kits")
        for number, name in enumerate(self.names):
            shutil.copytree(self.root / "kits" / name, self.root / name)
            raw = tomllib.loads(self.site(name).read_text())
            raw["policy"] |= {"approval": "automatic"}
            self.settle(number, name, raw)
            self.site(name).write_text(tomli_w.dumps(raw))
        return self

    def __exit__(self, *_: object) -> None:
        for each in reversed(self.started):
            if each.process.poll() is None:
                each.process.terminate()
        for each in self.started:
            each.process.wait(60)

    def settle(self, number: int, name: str, raw: dict[str, Any]) -> None:
        """What site `name` does with its kit, which lies in <root>/<name>: a teacher; `raw` is its site file."""
        raise NotImplementedError

    def env(self, name: str) -> dict[str, str]:
        """The environment of a command of `name`."""
        return {key: value for key, value in os.environ.items() if not key.startswith("FLWR_")}

    def start(self, kind: type[Started], name: str, *arguments: object) -> Any:
        """`nakt` with these arguments, which stays; what it says goes to <root>/<name>.log."""
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

    def start_coordinator(self) -> Any:
        """Started and all sites registered: a SuperNode that comes earlier is sent away."""
        started = self.start(self.kind, "coordinator", "coordinator", "start", self.kit, "--direct")
        for name in self.names:
            started.wait_for(f"site {name} may come")
        return started

    def start_sites(self, *names: str) -> dict[str, Any]:
        """Together, and ready when this returns."""
        sites = {name: self.start(self.kind, name, "site", "start", self.site(name)) for name in names}
        for each in sites.values():
            each.wait_for("SuperNode dials")
        return sites

    def start_all(self) -> dict[str, Any]:
        """By name; the coordinator is called so."""
        return {"coordinator": self.start_coordinator(), **self.start_sites(*self.names)}

    def submit(self, package: Path, settings: dict[str, str | int]) -> int:
        """Start a run of another app: `package` holds server_app.py and client_app.py. Returns Flower's run id."""
        home = self.root / f"submitted-{package.name}"
        app = other_app(package, settings, home)
        return Client(load_kit(self.kit), home).submit(app, settings)


def other_app(package: Path, settings: dict[str, str | int], home: Path) -> Path:
    """The folder, below `home`, of a Flower app that is not ours; settings begin empty."""
    app, name = home / "app", package.name
    shutil.copytree(package, app / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    parts = {"serverapp": f"{name}.server_app:app", "clientapp": f"{name}.client_app:app"}
    defaults = {key: type(value)() for key, value in settings.items()}
    project = {"name": name, "version": "1.0.0", "description": "", "license": "Apache-2.0"}
    flower = {"app": {"publisher": "somebody", "components": parts, "config": defaults}}
    write(app / "pyproject.toml", {"project": project, "tool": {"flwr": flower}})
    return app


def bundle_sha256(package: Path, settings: dict[str, str | int]) -> str:
    """What a site that approves this app has in policy.apps."""
    with tempfile.TemporaryDirectory() as folder:
        return hashlib.sha256(built(other_app(package, settings, Path(folder)), Path(folder))).hexdigest()
