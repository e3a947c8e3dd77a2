"""Which processes a test has started, and which of them are still there (Linux)."""

import os
import time
from contextlib import suppress
from pathlib import Path

from nakt_fed.processes import below


def born(pid: int) -> int | None:
    """When a process was started, in clock ticks; None when it is gone or only its entry is left (a zombie)."""
    with suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[19]) if fields[0] != "Z" else None
    return None


def command(pid: int) -> str:
    """A process's command line; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def started() -> set[int]:
    """All descendants of this process, but Python's own resource tracker: it lives as long as this process does."""
    return {pid for pid in below(os.getpid()) if "multiprocessing.resource_tracker" not in command(pid)}


def family(pid: int) -> dict[int, int]:
    """All descendants of a process with the time of their birth: a process number alone may be used again."""
    known = below(pid) if pid != os.getpid() else started()
    return {child: time for child in known if (time := born(child)) is not None}


def survivors(known: dict[int, int], patience: float = 0) -> list[str]:
    """What is still there of a family after so many seconds: pid and command line."""
    deadline = time.monotonic() + patience
    while left := [pid for pid, time in known.items() if born(pid) == time]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return [f"{pid} {command(pid)[:120]}" for pid in left]
