"""The transferal set at the coordinator: preprocessed once, hashed, with its views, on disk."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from nakt_fed.data.folders import list_transferal, read_pictures
from nakt_fed.data.pictures import content_hash
from nakt_fed.errors import DataError
from nakt_fed.manifest import Manifest
from nakt_fed.shared_set import SharedSet, save_manifest
from nakt_fed.store import create_stack
from nakt_fed.study import Study
from nakt_fed.views import Viewed, ViewScheme

IN_MEMORY = 256 * 2**20
"""Originals up to this many bytes are held in memory while views are rendered; views read them at random."""


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
    save_manifest(Manifest(tuple(ids), tuple(hashes), size, scheme), folder)


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
