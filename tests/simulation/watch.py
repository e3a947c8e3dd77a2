"""Which processes belong to a run, and which of them are still there (Linux)."""

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


def family(pid: int) -> dict[int, int]:
    """All descendants of a process with the time of their birth: a process number alone may be used again."""
    return {child: time for child in below(pid) if (time := born(child)) is not None}


def survivors(known: dict[int, int], patience: float = 0) -> list[str]:
    """What is still there of a family after so many seconds: pid and command line."""
    deadline = time.monotonic() + patience
    while left := [pid for pid, time in known.items() if born(pid) == time]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return [f"{pid} {Path(f'/proc/{pid}/cmdline').read_text()[:120]}" for pid in left]
