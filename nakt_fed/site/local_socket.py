"""The local socket of a teacher service: made for its owner and group, in a folder where nobody can put another in its place."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nakt_fed.errors import RunError

LONGEST_PATH = 107
"""Bytes, of a Unix socket."""


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that the owner and the group may open. What a dead service left behind is replaced.

    Raises:
        RunError: a living service listens there, something else lies there, or as `check_folder`.
    """
    check_path(path)
    check_folder(path.parent)
    _clear(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
        try:
            path.chmod(0o660)  # nobody could connect until now: nothing listens yet
            yield sock
        finally:
            path.unlink(missing_ok=True)


def check_path(path: Path) -> None:
    """Raises RunError: too long for a Unix socket."""
    if (length := len(os.fsencode(path))) > LONGEST_PATH:
        text = f"the socket's path has {length} bytes, a Unix socket's at most {LONGEST_PATH}: {path}"
        raise RunError(f"{text}; give a short one: [site] socket in the site file")


def check_folder(folder: Path) -> None:
    """Make it, for owner and group.

    Raises:
        RunError: it is there, and everybody may enter, or the group may put another socket in the place of this one.
    """
    for made in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        made.mkdir(mode=0o750)
        made.chmod(0o750)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o007:
        raise RunError(
            f"every user of this machine may enter {folder}, where the socket is to be; give it a folder of its own: [site] socket "
            f"in the site file (or, if nothing else uses {folder}: chmod o-rwx)"
        )
    if mode & 0o020:
        raise RunError(
            f"the group may write to {folder}, where the socket is to be, so the coordinator's app could put its own there; "
            "chmod g-w, or give it a folder of its own: [site] socket in the site file"
        )


def _clear(path: Path) -> None:
    if not path.is_socket():
        if path.exists():
            raise RunError(f"{path} is there and no socket; give another place: [site] socket in the site file")
        return
    if is_answered(path):
        raise RunError(f"a teacher service listens on {path} already; end it, or give another place: [site] socket")
    path.unlink(missing_ok=True)


def is_answered(path: Path) -> bool:
    """Whether a process listens on the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # BlockingIOError: too many wait in line
            return True
    return True
