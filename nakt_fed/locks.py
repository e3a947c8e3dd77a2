"""Locks between processes: a lock is a file, and whoever dies lets go of it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nakt_fed.errors import RunError


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder while working in it.

    Raises:
        RunError: another process works in it.
    """
    told = f"{folder} is being worked on by another process; wait for it or stop it"
    with locked(folder / ".lock", fcntl.LOCK_EX, told):
        yield


@contextmanager
def locked(path: Path, how: int, told: str) -> Iterator[None]:
    """Hold the lock file at `path`, alone (LOCK_EX) or beside others (LOCK_SH). Raises RunError(`told`): it is not free."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except OSError:
            raise RunError(told) from None
        yield


@contextmanager
def in_line(path: Path) -> Iterator[None]:
    """Hold the lock file at `path` alone, once whoever holds it has let go: for what takes a moment."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
