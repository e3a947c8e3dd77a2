"""A picture set that the sites answer, on disk at the coordinator: the pictures, and the teachers' answers to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from nakt_fed.classes import ONE, planes
from nakt_fed.data.folders import PictureSet
from nakt_fed.data.pictures import content_hash
from nakt_fed.errors import DataError
from nakt_fed.manifest import Manifest
from nakt_fed.store import ChunkStore, create_stack, open_group
from nakt_fed.whole_file import write_whole


@dataclass(frozen=True)
class SharedSet:
    """Pictures that the sites are asked about. `name` is "transferal" or "test-<name>"; `folder` holds its files.

    `classes` are those that each site answers, where there are several; `label` is the one that a view (`of`) is about.
    """

    name: str
    manifest: Manifest
    folder: Path
    chunk: int
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    label: str = ""

    def of(self, label: str) -> "SharedSet":
        """The same pictures with the masks of one class only."""
        return replace(self, label=label)

    def planes(self, name: str) -> tuple[str, ...]:
        """What the stacks of a site are called in the mask store."""
        return planes(name, (self.label,) if self.label else self.classes.get(name, ONE))

    @property
    def images(self) -> zarr.Array[Any]:
        """(N, H, W) uint8 in the manifest's order."""
        return open_group(self.folder / "pictures.zarr")["images"]  # type: ignore[return-value]

    @property
    def truth(self) -> NDArray[np.uint8]:
        """(N, H, W) uint8, 0 or 255; test sets only."""
        [name] = planes("truth", (self.label,))
        return np.asarray(open_group(self.folder / "pictures.zarr")[name][:])  # type: ignore[index]

    @property
    def masks(self) -> ChunkStore:
        """The sites' answers; of a site that knows several classes a stack per class."""
        count, size = len(self.manifest), self.manifest.image_size
        return ChunkStore(self.folder / "masks.zarr", count, size, self.chunk, planes=self.planes)


def shared_test(
    name: str,
    pictures: PictureSet,
    folder: Path,
    chunk: int,
    judged: Sequence[str] = ONE,
    asked: Mapping[str, Sequence[str]] | None = None,
) -> SharedSet:
    """A test set as a picture set the sites answer like any other; the truth stays at the coordinator.

    Args:
        judged: the classes of the pictures' masks.
        asked: the classes that each site answers, where there are several.

    Raises:
        DataError: an earlier start has begun with other pictures.
    """
    size = pictures.images.shape[1]
    hashes = tuple(content_hash(image) for image in pictures.images)
    manifest = Manifest(tuple(pictures.ids), hashes, size)
    if not (folder / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        group = zarr.open_group(str(folder / "pictures.zarr"), mode="w")
        truths = np.moveaxis(pictures.masks, 1, 0) if pictures.masks.ndim == 4 else [pictures.masks]
        for key, stack in (("images", pictures.images), *zip(planes("truth", judged), truths, strict=True)):
            create_stack(group, key, len(pictures), size, chunk)[:] = stack
        group.attrs["ids"] = list(pictures.ids)
        save_manifest(manifest, folder)
    elif Manifest.from_json((folder / "manifest.json").read_bytes()).sha256 != manifest.sha256:
        raise DataError(
            f"the pictures of test set {name!r} are not those that this run has begun with (changed, or held out by "
            "another rule); bring them back, or start a new run"
        )
    return SharedSet(f"test-{name}", manifest, folder, chunk, asked or {})


def save_manifest(manifest: Manifest, folder: Path) -> None:
    """Write manifest.json, whole or not at all: with it the set is complete."""
    write_whole(folder / "manifest.json", manifest.to_json())
