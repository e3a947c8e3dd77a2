"""One private SuperLink per run, and the `flwr` command that talks to it; both end with us, whatever happens to us."""

import json
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO

from nakt_fed.errors import RunError
from nakt_fed.flower_environment import free_port
from nakt_fed.processes import Process, end_guarded, guarded, start_guarded
from server.flower import connect, last_words, script

from .home import environment, make_home

START_SECONDS = 60.0  # until the SuperLink answers; 2 s on an idle machine
PORTS_TO_TRY = 3


class SuperLink:
    """Flower's server for one run, with its own home folder, port and environment; state in memory."""

    def __init__(self, threads: int, user: Mapping[str, str], log: IO[bytes]) -> None:
        self.port, self.home = free_port(), make_home()
        self.env = environment(self.home, threads, user)
        connect(self.home, f"127.0.0.1:{self.port}")
        options = ["--simulation", "--insecure", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = start_guarded(
            [script("flower-superlink"), *options, "--disable-runtime-dependency-installation"],
            env=self.env,
            sink=log,
            cwd=self.home / "work",
            remove=self.home,
        )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def healthy(self) -> bool:
        """Wait until it answers; False when it ended before, as it does when another program took the port."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + START_SECONDS
        while self.alive and time.monotonic() < deadline:
            try:
                with direct.open(f"http://127.0.0.1:{self.port}/health", timeout=1):
                    return self.alive
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        return False

    @contextmanager
    def flwr(self, options: list[str], sink: IO[bytes]) -> Iterator[Process]:
        """The `flwr` command, connected to this SuperLink."""
        with guarded([script("flwr"), *options], env=self.env, sink=sink, cwd=self.home / "work") as client:
            yield client

    def status(self) -> str:
        """The only run's status in Flower's words: `flwr run` exits with 0 even when the run failed."""
        if not self.alive:
            return "its SuperLink ended early"
        answer = self.home / "status.json"
        with answer.open("wb") as sink, self.flwr(["ls", "nakt", "--format", "json"], sink) as client:
            client.wait()
        try:
            run = json.loads(answer.read_text())["runs"][0]
            return str(run["status"]) if run["status-details"] == "N/A" else f"{run['status']}: {run['status-details']}"
        except (json.JSONDecodeError, KeyError, IndexError):
            return f"unknown status: {answer.read_text().strip()}"


@contextmanager
def superlink(threads: int, user: Mapping[str, str]) -> Iterator[SuperLink]:
    """A SuperLink that answers; gone with all that it started when the block is left.

    Raises:
        RunError: no free port, or it does not start.
    """
    last = ""
    for _ in range(PORTS_TO_TRY):
        with tempfile.TemporaryFile() as log:  # not in its home, which is gone as soon as it is
            link = SuperLink(threads, user, log)
            try:
                if link.healthy():
                    yield link
                    return
            finally:
                end_guarded(link.process)
            log.seek(0)
            last = last_words(log.read())
    raise RunError(f"Flower's SuperLink did not start on 127.0.0.1; its last words:\n{last}")
