"""What the status of a run is read from: lines as they are written, words made plain, the lock, the times of the files."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

ABSOLUTE = re.compile(
    r"""(?<![\w.\]]) (?: (?P<quote>['"])(?:file:/)?/.*?(?P=quote) | (?:file://)?/[^\s'",;:()]+(?:[ ][^\s/'",;:()]+/[^\s'",;:()]*)* )""",
    re.VERBOSE,
)
"""A path; one with spaces is known as a whole when it is quoted."""
LONGEST_TEXT = 600


class Tail:
    """The JSON lines of a file that were written since one last looked. A line that was cut or is half written is passed over."""

    def __init__(self, path: Path) -> None:
        self.path, self.position = path, 0

    def new(self) -> list[dict[str, Any]]:
        if not self.path.exists() or self.path.stat().st_size <= self.position:
            return []
        with self.path.open("rb") as file:
            file.seek(self.position)
            whole, end, _ = file.read().rpartition(b"\n")
        self.position += len(whole) + len(end)
        found = []
        for line in whole.splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if isinstance(line, dict)]


def is_held(folder: Path) -> bool | None:
    """Whether a process of this machine works in the run folder (`resume.only_one`); None where that cannot be told.

    The lock is looked up and never taken, not even for a moment: a run that starts now would be refused.
    """
    try:
        inode = (folder / ".lock").stat().st_ino
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return None
    return any("FLOCK" in line and f":{inode} " in line for line in locks.splitlines())


def written(folder: Path) -> float:
    """When something was last written in a run folder, in seconds since 1970."""
    marks = [folder / name for name in ("study.toml", ".lock", "events.jsonl", "ledger.jsonl")]
    return max(path.stat().st_mtime for path in marks if path.exists())


def plain(text: str, run: Path) -> str:
    """Words that came from elsewhere, for a terminal and a page: no control characters, no path but the run folder's name.

    >>> plain("/a/runs/x/masks.zarr of /home/me/p.png \\x1b[2J", Path("/a/runs/x"))
    'x/masks.zarr of [path] �[2J'
    """
    text = ABSOLUTE.sub("[path]", text.replace(f"{run}/", f"{run.name}/").replace(str(run), run.name))
    text = "".join(letter if letter.isprintable() else " " if letter.isspace() else "�" for letter in text)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
