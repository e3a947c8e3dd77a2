"""One line of a log of receipts, and the file that vouches for the log's end."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nakt_fed.whole_file import write_json

Line = dict[str, Any]

START = "0" * 64
"""What the first line has in place of a hash before it."""


def sealed(told: Line, number: int, previous: str) -> Line:
    """A line number `number` that follows the one with hash `previous`."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    line: Line = {"n": number, "time": time, **told, "previous": previous}
    return {**line, "hash": _seal(line)}


def _seal(line: Line) -> str:
    content = {key: value for key, value in line.items() if key != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def to_bytes(line: Line) -> bytes:
    """A line as it stands in the file, without the newline."""
    return json.dumps(line).encode()


def read_line(raw: bytes) -> Line | None:
    """The other end of `to_bytes`; None when it is, to the byte, not what was written."""
    try:
        line = json.loads(raw)
        numbered = type(line["n"]) is int and isinstance(line["previous"], str)
        return line if numbered and line["hash"] == _seal(line) and to_bytes(line) == raw else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def sums(received: bytes, sent: bytes) -> Line:
    """Bytes and SHA-256 of what came in and what went out."""
    return {
        "bytes_in": len(received),
        "bytes_out": len(sent),
        "sha256_in": hashlib.sha256(received).hexdigest(),
        "sha256_out": hashlib.sha256(sent).hexdigest(),
    }


def head_file(path: Path) -> Path:
    """Where the number and hash of a log's last line are kept."""
    return path.with_name(path.name + ".head")


def read_head(path: Path) -> tuple[int, str] | None:
    """Number and hash of the last line of the log at `path`; None when they cannot be read."""
    try:
        kept = json.loads(head_file(path).read_bytes())
        return int(kept["n"]), str(kept["hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep_head(path: Path, line: Line) -> None:
    """Remember the last line, whole or not at all, also after a power cut."""
    write_json(head_file(path), {"n": line["n"], "hash": line["hash"]})
