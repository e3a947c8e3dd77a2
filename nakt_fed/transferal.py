"""A picture set at the coordinator: preprocessed once, hashed, with its views, on disk; and the teachers' answers to it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from nakt_fed.classes import ONE, planes
from nakt_fed.data.folders import PictureSet, list_transferal, read_pictures
from nakt_fed.data.pictures import content_hash
from nakt_fed.errors import DataError
from nakt_fed.manifest import Manifest
from nakt_fed.store import ChunkStore, create_stack, open_group
from nakt_fed.study import Study
from nakt_fed.views import Viewed, ViewScheme

IN_MEMORY = 256 * 2**20
"""Originals up to this many bytes are held in memory while views are rendered; views read them at random."""


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


def transferal_set(study: Study, folder: Path) -> SharedSet:
    """Build pictures.zarr and manifest.json in `folder`, or open what an earlier start has built.

    Raises:
        DataError: a folder or picture cannot be used, or a picture is there twice.
    """
    if not (folder / "manifest.json").exists():
        _build(study, folder)
    manifest = Manifest.from_json((folder / "manifest.json").read_bytes())
    return SharedSet("transferal", manifest, folder, study.chunk(len(manifest)), study.asked)


def _build(study: Study, folder: Path) -> None:
    size, spec = study.study.image_size, study.transferal
    files = list_transferal(spec.images)
    hashes = [content_hash(image) for image in read_pictures((path for _, path in files), size)]
    files, hashes = without_twins(files, hashes, drop=spec.duplicates == "drop")
    scheme = ViewScheme(study.study.seed, spec.views, spec.mix) if spec.views else None
    count = len(files) * (1 + spec.views)
    chunk = study.chunk(count)
    group = zarr.open_group(str(folder / "pictures.zarr"), mode="w")
    images = create_stack(group, "images", count, size, chunk, alone=True)
    _write(images, read_pictures((path for _, path in files), size), chunk)
    ids = [name for name, _ in files]
    if scheme:
        viewed = Viewed(ids, _at_hand(images, len(ids)), scheme)
        hashes += _write(images, (viewed.picture(j) for j in range(len(ids), count)), chunk, len(ids))
        ids = viewed.ids
    _save(Manifest(tuple(ids), tuple(hashes), size, scheme), folder)


def without_twins(
    files: list[tuple[str, Path]], hashes: list[str], drop: bool
) -> tuple[list[tuple[str, Path]], list[str]]:
    """Exact duplicates would count twice: refuse them, or drop all but the first when the study says so."""
    places: dict[str, list[int]] = defaultdict(list)
    for index, value in enumerate(hashes):
        places[value].append(index)
    twins = [group for group in places.values() if len(group) > 1]
    if twins and not drop:
        first, second = (files[index][1] for index in twins[0][:2])
        raise DataError(
            f"{second} has the pixels of {first} (duplicates in the transferal set: {sum(map(len, twins)) - len(twins)}); "
            'remove them, or set transferal.duplicates = "drop"'
        )
    kept = sorted(group[0] for group in places.values())
    return [files[index] for index in kept], [hashes[index] for index in kept]


def _write(images: zarr.Array[Any], pictures: Iterator[NDArray[np.uint8]], chunk: int, start: int = 0) -> list[str]:
    """Write pictures from row `start` on, chunk by chunk; returns their hashes."""
    hashes: list[str] = []
    waiting: list[NDArray[np.uint8]] = []
    for picture in pictures:
        waiting.append(picture)
        hashes.append(content_hash(picture))
        if (start + len(waiting)) % chunk == 0:
            images[start : start + len(waiting)] = np.stack(waiting)
            start, waiting = start + len(waiting), []
    if waiting:
        images[start : start + len(waiting)] = np.stack(waiting)
    return hashes


def _at_hand(images: zarr.Array[Any], count: int) -> Any:
    """The originals in memory where they fit, else as they lie on disk."""
    return np.asarray(images[:count]) if count * images.shape[1] ** 2 <= IN_MEMORY else images


def _save(manifest: Manifest, folder: Path) -> None:
    part = folder / "manifest.part"
    part.write_text(manifest.to_json(), encoding="utf-8")
    part.replace(folder / "manifest.json")


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
        _save(manifest, folder)
    elif Manifest.from_json((folder / "manifest.json").read_bytes()).sha256 != manifest.sha256:
        raise DataError(
            f"the pictures of test set {name!r} are not those that this run has begun with (changed, or held out by "
            "another rule); bring them back, or start a new run"
        )
    return SharedSet(f"test-{name}", manifest, folder, chunk, asked or {})
