"""A picture set as a site holds it: offered by manifest, sent by chunks, checked by hash."""

import hashlib
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nakt_fed.codec import decode
from nakt_fed.data.pictures import content_hash
from nakt_fed.errors import DataError
from nakt_fed.manifest import Manifest
from nakt_fed.store import ChunkStore
from nakt_fed.views import Viewed
from nakt_fed.whole_file import write_whole


class OfferedSet:
    """A picture set as a site holds it: the manifest, the originals it was sent; views are derived, and checked by hash."""

    def __init__(self, folder: Path, manifest: Manifest, chunk: int) -> None:
        self.manifest = manifest
        self.store = ChunkStore(folder / "pictures.zarr", manifest.originals, manifest.image_size, chunk, "pictures")

    @classmethod
    def keep(cls, folder: Path, manifest: Manifest, chunk: int) -> "OfferedSet":
        """Remember an offer; every process of the site finds it here."""
        folder = folder / f"{manifest.sha256[:16]}-{chunk}"
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "manifest.json", manifest.to_json())
        write_whole(_mark(folder.parent, manifest.sha256), folder.name)
        return cls(folder, manifest, chunk)

    @classmethod
    def open(cls, parent: Path, manifest: str) -> "OfferedSet":
        """What `keep` remembered. Runs at the same time may have sets of one name: each asks with its own manifest (SHA-256).

        Raises:
            DataError: this manifest was not offered under this name.
        """
        mark = _mark(parent, manifest) if re.fullmatch("[0-9a-f]{64}", manifest) else None
        if mark and mark.exists():
            folder = parent / mark.read_text()
            offered = Manifest.from_json((folder / "manifest.json").read_bytes())
            if offered.sha256 == manifest:  # the folder's name has only its beginning
                return cls(folder, offered, int(folder.name.rsplit("-", 1)[1]))
        raise DataError("what is asked is about a manifest that was never offered in this set; offer it first")

    def receive(self, chunk: int, blob: bytes) -> None:
        """Check a chunk of originals against the manifest and keep it.

        Raises:
            DataError: no such chunk, or a picture that the manifest does not list at this place.
            AnswerError: the bytes are no coded pictures.
        """
        if not 0 <= chunk < len(self.store.chunks):
            raise DataError(f"chunk {chunk} of pictures; the manifest has {len(self.store.chunks)}")
        rows = self.store.chunks[chunk]
        pictures = decode(blob, (len(rows), self.manifest.image_size, self.manifest.image_size))
        self._check(pictures, rows)
        self.store.write("sent", chunk, pictures)

    def _check(self, pictures: NDArray[np.uint8], rows: range) -> None:
        for picture, row in zip(pictures, rows, strict=True):
            if content_hash(picture) != self.manifest.hashes[row]:
                raise DataError(
                    f"picture {row} is not the one in the manifest; send it again, or mend the version of nakt-fed on one side"
                )

    @cached_property
    def _members(self) -> Any:
        """All originals in memory, with the views behind them; taken only after every original has arrived."""
        assert self.manifest.views
        return Viewed(self.manifest.ids[: self.manifest.originals], self.store.all("sent"), self.manifest.views)

    def pictures(self, rows: range) -> NDArray[np.uint8]:
        """Members of the set, (n, H, W) uint8.

        Raises:
            DataError: outside the set, or the pictures were not sent yet.
        """
        if not 0 <= rows.start < rows.stop <= len(self.manifest):
            raise DataError(
                f"pictures {rows.start} to {rows.stop} of a set of {len(self.manifest)}; ask within the set"
            )
        lacking, only_originals = self.store.missing("sent"), rows.stop <= self.manifest.originals
        if only_originals:  # a view needs them all
            lacking = [chunk for chunk in lacking if set(self.store.chunks[chunk]) & set(rows)]
        if lacking:
            raise DataError("masks are asked before the pictures that they need were sent; send them first")
        if only_originals:
            return np.asarray(self.store.stack("sent")[rows.start : rows.stop])
        pictures: NDArray[np.uint8] = self._members.pictures(rows)
        self._check(pictures, rows)
        return pictures


def _mark(parent: Path, manifest: str) -> Path:
    """A file that names the folder of the manifest's last offer."""
    return parent / f"{manifest[:16]}.offer"


def set_folder(name: str) -> str:
    """A folder name of its own for every set's name: what comes from outside never becomes a path."""
    readable = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)[:40]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
