import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nakt_fed.errors import RunError
from nakt_fed.processes import below
from nakt_fed.site.local_socket import is_answered
from nakt_fed.site.relay import ask_service
from nakt_fed.site.site_file import SiteFile, load_site
from nakt_fed.site.supervise import app_environment, start_site, supernode_command
from tests.command import nakt
from tests.nakt_fed.site.desk import Echo, served, wait_for
from tests.nakt_fed.site.hospital import Coordinator
from tests.nakt_fed.site.kit import write_site
from tests.watch import command, family, survivors

ROOT = Path(__file__).parents[3]
STAND_IN = "import sys, time; print('stand-in at', sys.argv[1], flush=True); time.sleep(600)"
START = """
import sys
from pathlib import Path
from nakt_fed.site import supervise
_, site, offline, stand_in = sys.argv
supervise.OFFLINE = float(offline)
if stand_in:
    supervise.supernode_command = lambda file: [sys.executable, "-c", stand_in, "0"]
sys.argv = ["nakt", "site", "start", site]
from nakt_fed.cli import main
main()
"""


class Started:
    """`nakt site start` in a process of its own; `said` is its lines so far."""

    def __init__(self, site: Path, offline: float = 1.0, supernode: str = STAND_IN) -> None:
        words = [sys.executable, "-c", START, str(site), str(offline), supernode]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.said: list[str] = []
        self.known: dict[int, int] = {}
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        self.said.extend(line.split("  ", 1)[1].rstrip() for line in self.process.stdout)

    def wait(self, words: str, count: int = 1, seconds: float = 40) -> None:
        wait_for(lambda: sum(words in line for line in self.said) >= count, seconds)
        self.known |= family(self.process.pid)

    def kill(self, words: str) -> None:
        """SIGKILL to the program, not to its guard."""
        found = [pid for pid in below(self.process.pid) if words in command(pid) and "processes.py" not in command(pid)]
        assert len(found) == 1, [command(pid) for pid in below(self.process.pid)]
        os.kill(found[0], signal.SIGKILL)

    def end(self, how: int) -> int:
        self.known |= family(self.process.pid)
        self.process.send_signal(how)
        code = self.process.wait(30)
        self.reader.join(5)
        assert survivors(self.known, patience=10) == []
        return code


@contextmanager
def started(site: Path, offline: float = 1.0, supernode: str = STAND_IN) -> Iterator[Started]:
    running = Started(site, offline, supernode)
    try:
        yield running
    finally:
        running.process.kill()
        running.reader.join(20)
        running.process.__exit__(None, None, None)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_both_run_what_dies_is_started_again_and_nothing_is_left(tmp_path: Path, stop: int) -> None:
    site = write_site(tmp_path)
    file = load_site(site)
    with started(site) as running:
        running.wait("SuperNode dials 127.0.0.1:9")
        assert running.said[:2] == ["teacher service of ann is loading", "teacher service answers"]
        assert ask_service(file.socket, Coordinator(tmp_path).hello(), 10).meta["site"] == "ann"
        running.kill("serve")
        running.wait("teacher service was ended by SIGKILL; it is started again in 0 s")
        assert ask_service(file.socket, Coordinator(tmp_path).hello(), 30).ok
        running.kill("stand-in")
        running.wait("SuperNode was ended by SIGKILL; it is started again in 1 s")
        running.wait("SuperNode started again")
        assert running.end(stop) == 0
        assert running.said[-1] == "stopped"
    assert not is_answered(file.socket)


@pytest.mark.slow
def test_nothing_is_left_when_it_is_killed(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    with started(site) as running:
        running.wait("SuperNode dials")
        assert running.end(signal.SIGKILL) == -signal.SIGKILL
    assert not is_answered(load_site(site).socket)


@pytest.mark.slow
def test_a_service_that_cannot_start_is_tried_with_growing_pauses(tmp_path: Path) -> None:
    """And the coordinator never sees the site: the SuperNode waits for it."""
    site = write_site(tmp_path)
    (tmp_path / "teacher.safetensors").unlink()
    with started(site) as running:
        running.wait("teacher service ended with code 1; it is started again in", 2)
        assert not any("SuperNode" in line for line in running.said)
        running.end(signal.SIGINT)
    assert "error: checkpoint" in (load_site(site).site.folder / "service.log").read_text()


@pytest.mark.slow
def test_a_real_supernode_keeps_trying_where_no_superlink_is(tmp_path: Path) -> None:
    """20 s without a death: no crash loop. It reads the kit's key and certificate, and its options are known to Flower."""
    site = write_site(tmp_path)
    with started(site, supernode="") as running:
        running.wait("SuperNode dials")
        time.sleep(20)
        assert not any("SuperNode ended" in line for line in running.said)
        log = (load_site(site).site.folder / "supernode.log").read_text()
        assert "Starting Flower SuperNode" in log
        assert running.end(signal.SIGINT) == 0


def file_of(folder: Path, **site: object) -> SiteFile:
    return load_site(write_site(folder, site=site))


def test_the_supernode_only_dials_out(tmp_path: Path) -> None:
    command = supernode_command(file_of(tmp_path, socket="so ck"))
    assert command[2].endswith("sites/guard.py")
    assert command[command.index("--superlink") + 1] == "127.0.0.1:9"
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[3] == f"{tmp_path}/so ck"
    assert "--insecure" not in command


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a'b", "a\nb"])
def test_a_socket_that_flower_cannot_be_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="give another"):
        supernode_command(file_of(tmp_path, socket=name))


def test_the_app_sees_nothing_of_the_users_environment_but_what_it_needs(tmp_path: Path) -> None:
    user = {"PATH": "/bin", "AWS_SECRET": "x", "FLWR_HOME": "/mine", "HTTPS_PROXY": "http://proxy", "NO_PROXY": "a"}
    seen = app_environment(tmp_path, user)
    assert "AWS_SECRET" not in seen
    assert (seen["FLWR_HOME"], seen["HTTPS_PROXY"]) == (str(tmp_path), "http://proxy")
    assert seen["NO_PROXY"] == "a,127.0.0.1,localhost"
    assert seen["PATH"].endswith(":/bin")
    assert seen["FLWR_TELEMETRY_ENABLED"] == "0"


@pytest.mark.parametrize("name", ["site.key", "ca.crt", "coordinator.pub"])
def test_a_site_that_lacks_a_file_of_its_kit_is_not_started(tmp_path: Path, name: str) -> None:
    """Its SuperNode was started again every 70 s, and only its log said why."""
    site = write_site(tmp_path)
    (tmp_path / name).unlink()
    done = nakt("site", "start", site)
    assert (done.code, done.out) == (1, "")
    assert str(tmp_path / name) in done.err
    assert not (tmp_path / "state").exists()


def test_a_service_that_runs_already_is_not_joined(tmp_path: Path) -> None:
    file = file_of(tmp_path)
    file.site.folder.mkdir(mode=0o700)
    with served(Echo(), file.socket), pytest.raises(RunError, match="already"):
        start_site(tmp_path / "site.toml", file, print)
