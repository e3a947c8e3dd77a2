"""Answered mask chunks on disk: what was asked before costs no inference, also after a restart."""

import contextlib
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Protocol

from nakt_fed.errors import AnswerError
from nakt_fed.exchange import Reply, Request
from nakt_fed.site.frame import read_reply_frame, reply_frame

LIMIT = 20 * 10**9
"""Bytes."""


class Handler(Protocol):
    """Whatever answers requests: the gate, this cache, the teacher service. It never raises."""

    def handle(self, request: Request) -> Reply: ...


class Cached:
    """Keeps good replies to `masks`; all else goes through. One process works in `folder` at a time.

    Args:
        folder: the cache's own; a folder below it per manifest, a file per chunk.
        teacher: what tells this teacher from another (a hash): a new teacher never gives an old one's answers.
        limit: bytes on disk; beyond, the manifest that was longest without a new answer is dropped.
    """

    def __init__(self, inner: Handler, folder: Path, teacher: str = "", limit: int = LIMIT) -> None:
        self.inner, self.folder, self.limit = inner, folder, limit
        self.teacher = hashlib.sha256(teacher.encode()).hexdigest()[:16]
        self.size = _size(folder)

    def handle(self, request: Request) -> Reply:
        """The reply that is kept, or else the inner one, which is kept if it is good. A full disk changes nothing."""
        path = self._place(request)
        if path is None:
            return self.inner.handle(request)
        if kept := _kept(path):
            return kept
        reply = self.inner.handle(request)
        if reply.ok:
            with contextlib.suppress(OSError):
                self._keep(path, reply)
        return reply

    def _place(self, request: Request) -> Path | None:
        """Where the reply to a request for masks belongs; None for any other. What comes from outside never is a path."""
        meta = request.meta
        manifest, span, near = meta.get("manifest"), meta.get("range"), meta.get("near", 0)
        numbers = [*span, near] if isinstance(span, list) else []
        known = isinstance(manifest, str) and re.fullmatch("[0-9a-f]{64}", manifest)
        if request.kind != "masks" or not known or [type(number) for number in numbers] != [int] * 3:
            return None
        if not all(0 <= number < 2**31 for number in numbers):
            return None
        return self.folder / f"{manifest}-{self.teacher}" / ("-".join(map(str, numbers)) + ".reply")

    def _keep(self, path: Path, reply: Reply) -> None:
        """Whole or not at all."""
        frame = reply_frame(reply)
        data = hashlib.sha256(frame).digest() + frame
        if not self._make_room(len(data), path.parent):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        before = path.stat().st_size if path.exists() else 0
        try:
            draft.write_bytes(data)
            draft.replace(path)
            self.size += len(data) - before
        finally:
            draft.unlink(missing_ok=True)
        os.utime(path.parent)

    def _make_room(self, count: int, own: Path) -> bool:
        """Drop other manifests' folders, the oldest first, until `count` bytes fit."""
        if self.size + count <= self.limit:
            return True
        others = [folder for folder in self.folder.iterdir() if folder != own] if self.folder.exists() else []
        for folder in sorted(others, key=lambda folder: folder.stat().st_mtime):
            shutil.rmtree(folder, ignore_errors=True)
            self.size = _size(self.folder)
            if self.size + count <= self.limit:
                return True
        return False


def _kept(path: Path) -> Reply | None:
    """A reply from disk; None when there is none, or when a crash or the disk has damaged it."""
    try:
        data = path.read_bytes()
        frame = data[32:]
        return read_reply_frame(frame) if hashlib.sha256(frame).digest() == data[:32] else None
    except (OSError, AnswerError):
        return None


def _size(folder: Path) -> int:
    total = 0
    for path in folder.glob("*/*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total
