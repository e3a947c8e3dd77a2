"""Stacks of pictures and masks on disk (zarr): written chunk by chunk, each write whole or not at all."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from nakt_fed.errors import RunError

Planes = Callable[[str], Sequence[str]]


def create_stack(
    group: zarr.Group, name: str, count: int, size: int, chunk: int, alone: bool = False, classes: int = 1
) -> zarr.Array[Any]:
    """An array (count, size, size) uint8, or (count, classes, size, size). One file holds `chunk` pictures.

    With `alone` each of them can be read without the others, and all of them cost some times as much (96×96: 7 and 12 times).
    """
    picture = (size, size) if classes == 1 else (classes, size, size)
    parts: dict[str, Any] = {"chunks": (chunk, *picture)}
    if alone:
        parts = {"chunks": (1, *picture), "shards": (chunk, *picture)}
    return group.create_array(name, shape=(count, *picture), dtype="uint8", overwrite=True, **parts)


def open_group(path: Path | str, mode: str = "r") -> zarr.Group:
    """The zarr group at a path or URL.

    Raises:
        RunError: there is none, or it cannot be read.
    """
    try:
        return zarr.open_group(str(path), mode=mode)  # type: ignore[arg-type]
    except (FileNotFoundError, ValueError) as error:
        raise RunError(f"{path} is no zarr group that can be read ({error}); was the run finished?") from None


class ChunkStore:
    """Named stacks over one picture set: <kind>/<name> (N, H, W) uint8, and <kind>_done/<name> (N,) bool beside it.

    The mask store holds every site's answer (kind "masks"); a site keeps the pictures it was sent (kind "pictures").
    A chunk is marked as done after it was written: a kill in between asks for it once more, never skips it.

    Args:
        planes: the stacks that a name stands for: of a site that knows several classes one per class. Their masks are read
            and written one stack below the other, (planes · n, H, W).
    """

    def __init__(
        self, path: Path, count: int, size: int, chunk: int, kind: str = "masks", planes: Planes = lambda name: (name,)
    ) -> None:
        self.path, self.count, self.size, self.chunk, self.kind, self.planes = path, count, size, chunk, kind, planes
        self.group = zarr.open_group(str(path), mode="a")

    def stack(self, name: str) -> zarr.Array[Any]:
        """The whole array of a stack: a name, or one of its planes."""
        key = f"{self.kind}/{name}"
        if key not in self.group:
            create_stack(self.group, key, self.count, self.size, self.chunk)
        return self.group[key]  # type: ignore[return-value]

    @property
    def pseudo(self) -> zarr.Array[Any]:
        """The fused masks (N, H, W) uint8, once there are any."""
        return self.group["pseudo"]  # type: ignore[return-value]

    def _done(self, name: str) -> zarr.Array[Any]:
        key = f"{self.kind}_done/{name}"
        if key not in self.group:
            self.group.create_array(key, shape=(self.count,), chunks=(self.chunk,), dtype="bool")
        return self.group[key]  # type: ignore[return-value]

    @property
    def chunks(self) -> list[range]:
        """The picture indices of each chunk."""
        return [range(start, min(start + self.chunk, self.count)) for start in range(0, self.count, self.chunk)]

    def missing(self, name: str) -> list[int]:
        """Numbers of the chunks that are not done for `name`."""
        done = np.all([np.asarray(self._done(plane)[:]) for plane in self.planes(name)], axis=0)
        return [number for number, chunk in enumerate(self.chunks) if not done[chunk.start : chunk.stop].all()]

    def write(self, name: str, number: int, masks: NDArray[np.uint8]) -> None:
        """Keep chunk `number`: (n, H, W) uint8."""
        rows, planes = self.chunks[number], self.planes(name)
        for plane, part in zip(planes, np.split(masks, len(planes)), strict=True):
            self.stack(plane)[rows.start : rows.stop] = part
            self._done(plane)[rows.start : rows.stop] = True

    def read(self, name: str, number: int) -> NDArray[np.uint8]:
        """Chunk `number`, (n, H, W) uint8."""
        rows = self.chunks[number]
        parts = [np.asarray(self.stack(plane)[rows.start : rows.stop]) for plane in self.planes(name)]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def all(self, name: str) -> NDArray[np.uint8]:
        """All of one name that has one plane; for small sets (tests, galleries)."""
        [plane] = self.planes(name)
        return np.asarray(self.stack(plane)[:])

    def write_all(self, name: str, masks: NDArray[np.uint8]) -> None:
        """Keep a stack for every picture at once, of a name that has one plane."""
        for number, chunk in enumerate(self.chunks):
            self.write(name, number, masks[chunk.start : chunk.stop])


class PseudoSet:
    """The pseudo-annotated set that the student learns from: images and soft masks (n, H, W) uint8, ids, at a path or URL.

    Args:
        known: (n, C) bool, where there are C > 1 classes: which planes of the masks, then (n, C, H, W), are to be learned from.
        groups: n names of what must not be torn apart when some are held out for validation (patients).
    """

    def __init__(
        self,
        path: Path | str,
        size: int,
        chunk: int,
        ids: Sequence[str],
        known: NDArray[np.bool_] | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        options = (
            {"auto_mkdir": True} if str(path).startswith("file://") else None
        )  # a path or an object store needs none
        self.group = zarr.open_group(str(path), mode="w", storage_options=options)
        self.images = create_stack(self.group, "images", len(ids), size, chunk, alone=True)
        classes = 1 if known is None else known.shape[1]
        self.masks = create_stack(self.group, "masks", len(ids), size, chunk, alone=True, classes=classes)
        if known is not None:
            self.group.create_array("known", data=known)
        self.group.attrs["ids"] = list(ids)
        if groups is not None:
            self.group.attrs["groups"] = list(groups)
        self.written = 0
        self._waiting_images: list[NDArray[np.uint8]] = []
        self._waiting_masks: list[NDArray[np.uint8]] = []
        self._chunk = chunk

    def add(self, images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> None:
        """Append pictures (n, H, W) uint8 and their pseudo masks, likewise or (n, C, H, W); whole files are written as they fill up."""
        self._waiting_images.extend(images)
        self._waiting_masks.extend(masks)
        while len(self._waiting_images) >= self._chunk:
            self._flush(self._chunk)

    def close(self, mark: str) -> None:
        """Write the rest and mark the set as complete; `mark` says from what it was made."""
        self._flush(len(self._waiting_images))
        self.group.attrs["complete"] = mark

    def _flush(self, count: int) -> None:
        if count:
            part = slice(self.written, self.written + count)
            self.images[part], self.masks[part] = (
                np.stack(self._waiting_images[:count]),
                np.stack(self._waiting_masks[:count]),
            )
            del self._waiting_images[:count], self._waiting_masks[:count]
            self.written += count
