"""Receipts: a log of every exchange. Each line holds the hash of the line before, so that none can be changed, taken out or
moved without being found.

The end of the log is vouched for by a second file (`<log>.head`: number and hash of the last line). Who may write to both
files can write both anew; against that helps only a hash that was noted elsewhere, such as in the other side's log.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from nakt_fed.site.receipt_lines import START, Line, head_file, keep_head, read_head, read_line, sealed, sums, to_bytes

FILE = "receipts.jsonl"
"""Its name in a site's own folder."""
MEND = "mend"
"""Kind of the line behind bytes that are no receipt. Outcome `torn`: a write was broken off. `lost`: the log had been longer."""
TAIL = 1 << 16
MOST_LETTERS = 200


class Receipts:
    """Appends; several threads and processes may."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock = Lock()

    def append(
        self,
        kind: str,
        outcome: str,
        received: bytes = b"",
        sent: bytes = b"",
        *,
        run: str = "",
        picture_set: str = "",
        manifest: str = "",
        pictures: int = 0,
        who: str = "",
        reference: str = "",
    ) -> Line:
        """Write one line; it is on the disk when this returns. A line that a crash has cut is kept and marked as such.

        Args:
            outcome: ok, or the reason code of a refusal.
            received, sent: what came in and what went out; only their length and SHA-256 are kept.
            who: the other side.

        Raises:
            OSError: the disk is full, or the folder cannot be written to.
        """
        words = {"kind": kind, "who": who, "run": run, "set": picture_set, "manifest": manifest, "outcome": outcome}
        told: Line = {key: value[:MOST_LETTERS] for key, value in words.items()}
        told |= {"pictures": pictures, **sums(received, sent), "reference": reference[:MOST_LETTERS]}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self.path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            return self._append(file, told)

    def _append(self, file: BinaryIO, told: Line) -> Line:
        last, rest = _end(file)
        number, previous = (last["n"], last["hash"]) if last else (0, START)
        lines = []
        if (lost := self._was_longer(number)) or rest:
            mend = {"kind": MEND, "outcome": "lost" if lost else "torn", **sums(rest, b"")}
            lines.append(sealed(mend, number + 1, previous))
            number, previous = number + 1, lines[-1]["hash"]
        lines.append(sealed(told, number + 1, previous))
        file.write(_gap(file) + b"".join(to_bytes(line) + b"\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())
        keep_head(self.path, lines[-1])
        return lines[-1]

    def _was_longer(self, number: int) -> bool:
        """The head is written behind each line, so it can be one line late, but never early or missing."""
        head = read_head(self.path)
        return number > 1 if head is None else head[0] > number

    def lines(self) -> Iterator[Line]:
        """Every line that is a receipt, in the order of the file; `verify` says whether they can be believed."""
        if self.path.exists():
            with self.path.open("rb") as file:
                yield from (line for raw in file if (line := read_line(raw.rstrip(b"\n"))))


def _end(file: BinaryIO) -> tuple[Line | None, bytes]:
    """The last receipt, and the bytes behind it without the newline at their end."""
    size = file.seek(0, os.SEEK_END)
    for start in sorted({max(0, size - TAIL), 0}, reverse=True):
        file.seek(start)
        data = file.read().removesuffix(b"\n")
        stop = len(data)
        while stop >= 0:
            begin = data.rfind(b"\n", 0, stop) + 1
            if line := read_line(data[begin:stop]):
                return line, data[stop + 1 :]
            stop = begin - 1
    return None, data


def _gap(file: BinaryIO) -> bytes:
    """What has to stand before a new line."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    return b"" if file.read() in (b"", b"\n") else b"\n"


def verify(path: Path, noted: str | None = None) -> list[str]:
    """What is wrong with a log, in words; nothing when every line is as it was written and none is missing.

    Args:
        noted: the hash of a line, kept elsewhere; the log must still hold it.
    """
    path = Path(path)
    head = read_head(path)
    if not path.exists():
        gone = [f"{path.name} is not there, although receipts were written"] if head_file(path).exists() else []
        return gone + _missing({}, noted)
    raws = path.read_bytes().split(b"\n")
    half = raws.pop()
    found = {line["hash"]: line["n"] for raw in raws if (line := read_line(raw))}
    faults = list(_faults(raws))
    if half:
        faults.append(f"line {len(raws) + 1} is half written: a write was broken off, or the log was cut there")
    if head is None and len(found) > 1:
        faults.append(f"{head_file(path).name}, which vouches for the end, is missing or damaged")
    if head is not None and found.get(head[1]) != head[0]:
        faults.append(f"the end is cut off or was changed: the last receipt was number {head[0]}, hash {head[1][:12]}…")
    return faults + _missing(found, noted)


def _missing(found: dict[str, int], noted: str | None) -> list[str]:
    return [] if noted is None or noted in found else [f"no line has the hash that was noted, {noted[:12]}…"]


def _faults(raws: list[bytes]) -> Iterator[str]:
    """Walk along the chain; after a fault go on from the line that is there."""
    number, previous = 0, START
    broken: list[tuple[int, bytes]] = []
    for place, raw in enumerate(raws, 1):
        if (line := read_line(raw)) is None:
            broken.append((place, raw))
            continue
        mended = line.get("kind") == MEND and line.get("sha256_in") == _joined(broken)
        if not mended:
            yield from (f"line {at} was changed or damaged: it does not fit its hash" for at, _ in broken)
        if mended and line["outcome"] == "lost":
            yield f"before line {place} the log had been cut, or its .head file was away"
        if not (line["n"] == number + 1 and line["previous"] == previous) and not (broken and not mended):
            yield f"line {place} (receipt {line['n']}) does not follow receipt {number}: lines are missing or in another order"
        number, previous, broken = line["n"], line["hash"], []
    yield from (f"line {at} was changed or damaged: it does not fit its hash" for at, _ in broken)


def _joined(broken: list[tuple[int, bytes]]) -> str:
    return str(sums(b"\n".join(raw for _, raw in broken), b"")["sha256_in"])
