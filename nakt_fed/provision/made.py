"""The record of what provisioning wrote: it knows a user's change from its own text, and never makes a key twice."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nakt_fed.errors import NaktError

SECRET, PUBLIC = 0o600, 0o644
RECORD = "authority/made.json"


class ProvisionError(NaktError):
    """Kits that cannot be made, and what to do."""


class Made:
    """Files below `root`, by their path in it. What happened to them stands in `new`, `renewed` and `kept`.

    The record holds the SHA-256 of every file as it was written; of a key it only says that there was one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.new: list[str] = []
        self.renewed: list[str] = []
        self.kept: list[str] = []
        if not (root / RECORD).exists():
            self._first()
        self.hashes = self._read()

    def _first(self) -> None:
        if (self.root / "coordinator").exists():
            raise ProvisionError(
                f"{self.root} has kits but no {RECORD}: put the folder authority back, or name another folder with --out"
            )
        self.hashes = {}
        self._save()

    def _read(self) -> dict[str, str]:
        try:
            record = json.loads((self.root / RECORD).read_text(encoding="utf-8"))
            return {str(name): str(content) for name, content in record.items()}
        except (ValueError, AttributeError):
            raise ProvisionError(f"{self.root / RECORD} is damaged; put back the one from your backup") from None

    def _save(self) -> None:
        self._write(RECORD, (json.dumps(self.hashes, indent=1, sort_keys=True) + "\n").encode(), PUBLIC)

    def read(self, name: str) -> bytes | None:
        """The file's content; None: it is not here."""
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def once(self, name: str, make: Callable[[], bytes], mode: int = SECRET) -> bytes | None:
        """Made if it never was. Returns its content; None: it was made before and has been taken away."""
        content = self.read(name)
        if content is None and name in self.hashes:
            return None
        if content is None:
            content = make()
            self._write(name, content, mode)
            self.new.append(name)
        self._note(name, "secret" if mode == SECRET else _hash(content))
        return content

    def file(self, name: str, content: bytes) -> None:
        """Written, or brought up to date; a file that the user has changed is kept."""
        found = self.read(name)
        if found is not None and found != content and _hash(found) != self.hashes.get(name):
            self.kept.append(name)
            return
        if found != content:
            self._write(name, content, PUBLIC)
            (self.new if found is None else self.renewed).append(name)
        self._note(name, _hash(content))

    def replace(self, name: str, content: bytes) -> None:
        """Written whatever is there."""
        self._write(name, content, PUBLIC)
        self.renewed.append(name)
        self._note(name, _hash(content))

    def is_away(self, name: str) -> bool:
        """Whether the file was made and is not here any more."""
        return name in self.hashes and not (self.root / name).exists()

    def forget(self, name: str) -> None:
        """A file, or all of a folder, that may be made anew."""
        self.hashes = {made: content for made, content in self.hashes.items() if not f"{made}/".startswith(f"{name}/")}
        self._save()

    def _note(self, name: str, content: str) -> None:
        if self.hashes.get(name) != content:
            self.hashes[name] = content
            self._save()

    def _write(self, name: str, content: bytes, mode: int) -> None:
        """Whole or not at all, with its final mode from the first byte."""
        path = self.root / name
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.unlink(missing_ok=True)  # of a run that was interrupted
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold the kits folder, which is made if it is not there. Raises ProvisionError: another process works in it."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ProvisionError(f"{root} is being worked on by another process; wait for it") from None
    finally:
        os.close(handle)
