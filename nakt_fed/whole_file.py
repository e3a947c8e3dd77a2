"""Files that are whole or not there: written beside their place, then moved into it. A kill or a full disk leaves the old one."""

import csv
import glob
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """A path to write to: the file takes the place of `path` when the block ends well, and is gone when it does not.

    It is on the disk before it is moved, so a power cut leaves the old file or the new one.
    """
    _clear(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Remove the drafts of processes that were killed while they wrote: each may be as large as the file."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        pid = draft.name.split(".")[-2]
        if pid.isdecimal() and not _lives(int(pid)):
            draft.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's, or no process's number at all
        return True
    return True


def write_whole(path: Path, content: bytes | str) -> Path:
    """Write the content, text as UTF-8, and return the path."""
    with draft_of(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_json(path: Path, value: Any) -> Path:
    """Write the value as JSON that people can read, too."""
    return write_whole(path, json.dumps(value, indent=1, ensure_ascii=False))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write the rows under the header."""
    with draft_of(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)
    return path
