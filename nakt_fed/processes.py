"""Nothing that is started here outlives its starter: a guard ends all that a command ever started.

As a program, `python processes.py FOLDER COMMAND...` with a pipe as standard input is the guard. When the command ends,
the pipe closes (whoever started us is gone, even by SIGKILL) or SIGTERM, SIGINT or SIGHUP comes, every process below
this one is ended and FOLDER, unless it is empty text, is removed. Daemons leave their process group and may overwrite
their environment, so neither finds them all; but on Linux a process can declare itself the one that orphans are handed
to (prctl PR_SET_CHILD_SUBREAPER), and then everything that was ever started from here stays below it.

Standard library only and no package imports: the guard has to start in milliseconds and to outlive everything.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PR_SET_CHILD_SUBREAPER = 36
GRACE, PATIENCE = 2.0, 15.0  # seconds: between asking to end and ending; until we give up on what cannot be ended

Process = subprocess.Popen[bytes]


def start_guarded(
    command: list[str], *, env: Mapping[str, str], sink: IO[bytes], cwd: Path | None = None, remove: Path | None = None
) -> Process:
    """Start a command under a guard, in a session of its own (Ctrl-C is ours to handle); its output goes to `sink`.

    Args:
        remove: folder that the guard deletes at the end.

    Returns:
        the guard. It exits as the command does, with 128 + n where that was ended by signal n.
    """
    guard = [sys.executable, "-I", "-S", __file__, str(remove or "")]
    return subprocess.Popen(
        guard + command, stdin=subprocess.PIPE, stdout=sink, stderr=sink, env=dict(env), cwd=cwd, start_new_session=True
    )


def end_guarded(guard: Process) -> None:
    """Let the guard end everything that the command started; returns when it is gone."""
    assert guard.stdin is not None
    guard.stdin.close()
    guard.wait(GRACE + PATIENCE + 5)


@contextmanager
def guarded(
    command: list[str], *, env: Mapping[str, str], sink: IO[bytes], cwd: Path | None = None, remove: Path | None = None
) -> Iterator[Process]:
    """`start_guarded`, and `end_guarded` when the block is left, also by Ctrl-C."""
    guard = start_guarded(command, env=env, sink=sink, cwd=cwd, remove=remove)
    try:
        yield guard
    finally:
        end_guarded(guard)


def adopt_orphans() -> None:
    """Linux only; elsewhere a process whose parent died is lost to us."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def parents() -> dict[int, int]:
    """Every process's parent, {pid: ppid}."""
    if not os.path.isdir("/proc/self"):  # noqa: PTH112
        table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        return {int(pid): int(ppid) for pid, ppid in (line.split() for line in table.splitlines())}
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
            # the program's name, in parentheses, may itself hold spaces and parentheses
            found[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    return found


def below(pid: int) -> set[int]:
    """All descendants of a process."""
    table, found, fresh = parents(), set[int](), {pid}
    while fresh:
        fresh = {child for child, parent in table.items() if parent in fresh} - found
        found |= fresh
    return found


def reap() -> None:
    """Dead children that nobody waited for still count as descendants."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end_all() -> None:
    """Ask every descendant to end; after GRACE seconds end what is left, until nothing is or PATIENCE is over."""
    start, asked = time.monotonic(), set[int]()
    while remaining := (below(os.getpid()) | asked) & parents().keys():
        waited = time.monotonic() - start
        if waited > PATIENCE:
            return
        for pid in remaining if waited > GRACE else remaining - asked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if waited > GRACE else signal.SIGTERM)
        asked |= remaining
        time.sleep(0.02)
        reap()


def main(folder: str, command: list[str]) -> int:
    """The guard's life; returns the command's exit code."""
    stop = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: stop.append(number))
    adopt_orphans()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while not stop and child.poll() is None:
        if select.select([0], [], [], 0.1)[0] and not os.read(0, 1):
            break
    code = child.poll()
    end_all()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    return 128 + signal.SIGTERM if code is None else code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
