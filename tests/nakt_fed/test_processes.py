"""The guard: whatever it started is gone when it is."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nakt_fed import processes
from nakt_fed.processes import end_guarded, guarded, start_guarded

ROOT = Path(__file__).parents[2]
DAEMON = """
import os, pathlib, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
        time.sleep(60)
    os._exit(0)
time.sleep(float(sys.argv[2]))
"""

STARTER = """
from tests.nakt_fed.test_processes import *
start_daemon(Path(sys.argv[1]), 60)
print(flush=True)
time.sleep(60)
"""
STUBBORN = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""


def start_daemon(folder: Path, seconds: float) -> processes.Process:
    """A command that leaves a daemon (own session, no parent) behind; returns once the daemon lives."""
    command = [sys.executable, "-c", DAEMON, str(folder / "pid"), str(seconds)]
    guard = start_guarded(command, env=os.environ, sink=sys.__stderr__.buffer)
    wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text())
    return guard


def wait_for(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    return pid in processes.parents()


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to a process of choice")


@linux
def test_daemon_ends_with_the_command(tmp_path: Path) -> None:
    guard = start_daemon(tmp_path, 0.5)
    guard.wait(20)
    assert not lives(int((tmp_path / "pid").read_text()))
    end_guarded(guard)


@linux
def test_daemon_ends_when_the_starter_lets_go(tmp_path: Path) -> None:
    guard = start_daemon(tmp_path, 60)
    end_guarded(guard)
    assert not lives(int((tmp_path / "pid").read_text()))


@linux
def test_daemon_ends_when_the_starter_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout
        process.stdout.readline()
        process.kill()
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not lives(pid))


def test_folder_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    with guarded(["true"], env=os.environ, sink=sys.__stderr__.buffer, remove=folder) as guard:
        assert guard.wait(10) == 0
    assert not folder.exists()


@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 128 + signal.SIGKILL)]
)
def test_exit_code_is_the_commands(code: str, expected: int) -> None:
    with guarded([sys.executable, "-c", code], env=os.environ, sink=sys.__stderr__.buffer) as guard:
        assert guard.wait(10) == expected


def test_stubborn_process_is_killed(tmp_path: Path) -> None:
    """One that ignores SIGTERM gets SIGKILL after GRACE seconds."""
    command = [sys.executable, "-c", STUBBORN, str(tmp_path / "up")]
    guard = start_guarded(command, env=os.environ, sink=sys.__stderr__.buffer)
    wait_for((tmp_path / "up").exists)
    began = time.monotonic()
    end_guarded(guard)
    assert processes.GRACE <= time.monotonic() - began < processes.GRACE + 5
