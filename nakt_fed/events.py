"""What a run tells while it works: one JSON line per event, written by any process, followed by any other."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.1


class EventLog:
    """Appends to a file of JSON lines; several processes may write to the same file at once."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def emit(self, kind: str, **fields: Any) -> None:
        """Append {"time": UTC, "kind": kind, **fields} in one write, so that lines of several writers never mix."""
        event = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "kind": kind, **fields}
        line = json.dumps(event, ensure_ascii=False).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(file, line)
        finally:
            os.close(file)


def end_of(path: Path) -> int:
    """Bytes written so far: where `follow` has to begin to see only what comes next."""
    return path.stat().st_size if path.exists() else 0


def follow(path: Path, stop: Callable[[], bool], start: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the events from byte `start` on as they are written, until `stop()` is true and the file is at its end.

    The file may not be there yet, and its last line may still be half written: that line is yielded when it is whole.
    A line that a full disk has cut is passed over.
    """
    position, ending = start, False
    while True:
        ending = stop()  # asked before reading: what was written before the end is still read
        lines, position = _whole_lines(path, position)
        yield from _events(lines)
        if ending:
            return
        if not lines:
            time.sleep(POLL_SECONDS)


def _events(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)


def _whole_lines(path: Path, position: int) -> tuple[list[bytes], int]:
    if end_of(path) <= position:
        return [], position
    with path.open("rb") as file:
        file.seek(position)
        whole = file.read().rpartition(b"\n")[0]
    return whole.splitlines(), position + len(whole) + 1 if whole else position
