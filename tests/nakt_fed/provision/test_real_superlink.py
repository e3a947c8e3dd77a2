"""A real SuperLink and SuperNode with what the kits hold, the SuperNode through a real nginx."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nakt_fed.provision.kits import provision
from tests.nakt_fed.provision.nginx import NGINX, free_ports, running_nginx, wait_for
from tests.nakt_fed.provision.test_site_template import unit

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NGINX is None, reason="no nginx on this machine")]
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "NO_PROXY": "127.0.0.1,localhost",
}


def script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@dataclass
class Federation:
    folder: Path
    port: int
    inner: int

    def kit(self, name: str) -> Path:
        return self.folder / "kits" / name

    def env(self, name: str) -> dict[str, str]:
        home = self.folder / f"home-{name}"
        home.mkdir(exist_ok=True)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # Flower starts programs by name
        return {**os.environ, **QUIET, "FLWR_HOME": str(home), "PATH": path}

    @contextmanager
    def running(self, name: str, *command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen([*map(str, command)], env=self.env(name), stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def supernode(self, name: str) -> list[str]:
        """The command of the site's systemd unit, at home here."""
        command = unit(self.kit(name) / "nakt-supernode.service")["Service"]["ExecStart"]
        [port] = free_ports(1)
        places = {
            "/opt/nakt/bin": str(Path(sys.executable).parent),
            "/srv/nakt": str(self.kit(name)),
            "28101": str(port),
        }
        for ours, here in places.items():
            assert ours in command
            command = command.replace(ours, here)
        return shlex.split(command)

    def flwr(self, port: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """The command line, with the certificate that every site has."""
        env = self.env(f"flwr-{port}")
        ca = self.kit("hospital-1") / "ca.crt"
        config = f'[superlink.there]\naddress = "127.0.0.1:{port}"\nroot-certificates = "{ca}"\n'
        (Path(env["FLWR_HOME"]) / "config.toml").write_text(config)
        command = [script("flwr"), *map(str, arguments), "--format", "json"]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=90)

    def nodes(self) -> list[dict[str, Any]]:
        return list(json.loads(self.flwr(self.inner, "supernode", "list", "there").stdout)["nodes"])


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("real")
    port, inner = free_ports(2)
    (folder / "federation.toml").write_text(
        f'[federation]\nname = "f"\n[coordinator]\nhost = "127.0.0.1"\nport = {port}\ninner_port = {inner}\n'
        '[[site]]\nname = "hospital-1"\n[[site]]\nname = "hospital-2"\n'
    )
    provision(folder / "federation.toml", folder / "kits")
    federation = Federation(folder, port, inner)
    kit = federation.kit("coordinator")
    superlink = [
        *(script("flower-superlink"), "--ssl-ca-certfile", kit / "ca.crt", "--ssl-certfile", kit / "server.crt"),
        *("--ssl-keyfile", kit / "server.key", "--enable-supernode-auth", "--disable-runtime-dependency-installation"),
        *("--host", "127.0.0.1", "--port", str(inner), "--database", folder / "state.db"),
    ]
    with ExitStack() as stack:
        stack.enter_context(federation.running("superlink", *superlink))
        wait_for(inner, 60)
        stack.enter_context(running_nginx(kit, folder / "nginx", port))
        yield federation


def test_a_registered_site_comes_in_through_the_proxy(federation: Federation) -> None:
    public = federation.kit("coordinator") / "sites" / "hospital-1.pub"
    done = federation.flwr(federation.inner, "supernode", "register", public, "there", "--name", "hospital-1")
    assert done.returncode == 0, done.stdout + done.stderr
    with federation.running("hospital-1", *federation.supernode("hospital-1")):
        end = time.monotonic() + 60
        while (status := federation.nodes()[0]["status"]) != "online":
            assert time.monotonic() < end, status + federation.log("hospital-1")


def test_a_site_that_is_not_registered_is_refused(federation: Federation) -> None:
    with federation.running("hospital-2", *federation.supernode("hospital-2")) as process:
        assert process.wait(60) != 0
    refused = (federation.folder / "nginx" / "refused.log").read_text()
    assert '"POST /v1/fleet/activate-node HTTP/1.1" 412' in refused  # Flower's word: no such node
    assert len(federation.nodes()) == 1


def test_a_site_cannot_list_or_start_runs_or_let_others_in(federation: Federation) -> None:
    """It has the address and the authority's certificate, which is all that Flower's control interface asks for."""
    app = federation.folder / "app"
    shutil.copytree(Path(__file__).parents[2] / "simulation" / "fake_app", app, dirs_exist_ok=True)
    public = federation.kit("hospital-2") / "site.pub"
    attempts: list[tuple[str | Path, ...]] = [
        ("ls", "there"),
        ("run", app, "there"),
        ("supernode", "list", "there"),
        ("supernode", "register", public, "there"),
    ]
    for attempt in attempts:
        assert not succeeded(federation.flwr(federation.port, *attempt)), attempt
        log = (federation.folder / "nginx" / "refused.log").read_text()
    assert log.count("/v1/control/") >= len(attempts)
    assert log.count('" 403 ') >= len(attempts)
    assert succeeded(federation.flwr(federation.inner, "ls", "there"))  # behind the proxy it is open


def succeeded(done: subprocess.CompletedProcess[str]) -> bool:
    try:
        return done.returncode == 0 and bool(json.loads(done.stdout)["success"])
    except (ValueError, KeyError):
        return False
