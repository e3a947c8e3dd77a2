"""What is said of cells: progress line by line, and at the end what failed."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nakt_fed.cli.words import duration, many

if TYPE_CHECKING:
    from .cells import Cell

SHOWN = 10


class Teller:
    """Turns the events of the child into lines: how many, which, how long, how long still."""

    def __init__(self, total: int, tell: Callable[[str], None]) -> None:
        self.total, self.tell, self.done, self.began = total, tell, 0, time.monotonic()

    def __call__(self, event: dict[str, Any]) -> None:
        if event["kind"] != "cell":
            self.tell(str(event.get("message", "")))
            return
        self.done += 1
        how = f"FAILED: {event['error']}" if "error" in event else f"{duration(event['seconds'])}{self._left()}"
        self.tell(f"[{self.done}/{self.total}] {event['name']}: {how}")

    def _left(self) -> str:
        left = (time.monotonic() - self.began) / self.done * (self.total - self.done)
        return f"; about {duration(left)} to go" if self.done < self.total else ""


def failed_path(folder: Path, key: str) -> Path:
    """Where it is noted why a cell failed, with the traceback."""
    return folder / "cells" / f"{key}.failed.json"


def failures(cells: Iterable["Cell"], folder: Path) -> str:
    """Which cells failed and why, or nothing. What waits for a failed cell is only counted."""
    missing = [cell for cell in cells if not (folder / "cells" / f"{cell.key}.json").exists()]
    told = [(cell.name, _error(folder, cell.key)) for cell in missing]
    failed = [(name, error) for name, error in told if error]
    if not missing:
        return ""
    lines = [f"  {name}: {error}" for name, error in failed[:SHOWN]]
    lines += [f"  and {len(failed) - SHOWN} others"] * (len(failed) > SHOWN)
    waiting = len(missing) - len(failed)
    rest = f"; {many(waiting, 'cell')} that wait{'s' * (waiting == 1)} for them {'was' if waiting == 1 else 'were'} not begun"
    where = f"  the whole error is in {folder / 'cells'}/*.failed.json; the same command tries these again and keeps the rest"
    return "\n".join([f"{many(len(failed), 'cell')} failed{rest * (waiting > 0)}:", *lines, where])


def _error(folder: Path, key: str) -> str:
    path = failed_path(folder, key)
    return str(json.loads(path.read_text(encoding="utf-8"))["error"]) if path.exists() else ""
