"""Look at a folder in the project's form: counts, sizes, foreground, damage, near-duplicates within and across parts."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nakt_fed.data.folders import united_mask
from nakt_fed.data.imports.manifest import DatasetManifest, read_manifest
from nakt_fed.data.listing import list_pictures, masks_found, picture_files, stem_of
from nakt_fed.data.parallel import in_threads
from nakt_fed.data.pictures import read_gray
from nakt_fed.data.twins import Hash, alike, near_pairs, picture_hash
from nakt_fed.errors import DataError

ALL, TRAIN = "all", "train"


@dataclass(frozen=True)
class Seen:
    """One picture. `foreground` is None without a mask; what could not be read has a `fault` and no `looks`."""

    name: str
    part: str
    path: Path
    masks: tuple[Path, ...] = ()
    width: int = 0
    height: int = 0
    foreground: float | None = None
    looks: Hash | None = None
    fault: str = ""


@dataclass(frozen=True)
class Inspection:
    """What was found. `near_duplicates` are groups of names "<part>/<stem>"; `faults` are lines for people."""

    folder: Path
    pictures: list[Seen]
    near_duplicates: list[list[str]]
    manifest: DatasetManifest | None
    faults: list[str]

    @property
    def parts(self) -> dict[str, list[Seen]]:
        """The readable pictures of each part."""
        found: dict[str, list[Seen]] = {}
        for seen in self.pictures:
            found.setdefault(seen.part, []).extend([] if seen.fault else [seen])
        return found

    @property
    def across(self) -> list[list[str]]:
        """The groups with pictures of several parts: what a test set must not share with a training set."""
        return [group for group in self.near_duplicates if len({name.partition("/")[0] for name in group}) > 1]


def inspect_set(folder: Path | str, on_picture: Callable[[int, int], None] | None = None) -> Inspection:
    """Read every picture and mask of a folder.

    The folder holds images/ and maybe masks/; or parts (train/, test/, ...) that do; or pictures, with or without
    `x_mask.png` beside them. With dataset.json the files are compared with it.

    Raises:
        DataError: the folder is missing or holds no picture, or its dataset.json cannot be read.
    """
    folder = Path(folder).resolve()
    manifest = read_manifest(folder)
    files = [seen for part, images, masks in _parts(folder) for seen in _files(part, images, masks)]
    seen = in_threads(partial(_look, folder), files, on_picture)
    whole = [one for one in seen if one.looks is not None]
    groups = alike([one.name for one in whole], near_pairs([one.looks for one in whole if one.looks is not None]))
    faults = [one.fault for one in seen if one.fault] + (_changed(manifest, folder, seen) if manifest else [])
    return Inspection(folder, seen, groups, manifest, faults)


def _parts(folder: Path) -> list[tuple[str, Path, Path | None]]:
    """(part, folder of pictures, folder of masks)."""
    picture_files(folder)  # refuses what is no folder
    below = [path for path in sorted(folder.iterdir()) if (path / "images").is_dir()]
    parts = [(path.name, path) for path in below]
    if (folder / "images").is_dir():
        parts.insert(0, (TRAIN if below else ALL, folder))
    if not parts:
        return [(ALL, folder, folder)]
    masks = [path / "masks" for _, path in parts]
    return [
        (name, path / "images", mask if mask.is_dir() else None)
        for (name, path), mask in zip(parts, masks, strict=True)
    ]


def _files(part: str, images: Path, masks: Path | None) -> list[Seen]:
    pictures = list_pictures(images)
    owned = masks_found(pictures, masks) if masks else {}
    return [Seen(f"{part}/{stem_of(path)}", part, path, tuple(owned.get(path, ()))) for path in pictures]


def _look(folder: Path, seen: Seen) -> Seen:
    try:
        gray = read_gray(seen.path)
        mask = united_mask(list(seen.masks), seen.path, gray.shape) if seen.masks else None
    except DataError as error:
        return Seen(seen.name, seen.part, seen.path, seen.masks, fault=str(error).replace(f"{folder}/", ""))
    share = None if mask is None else float(np.mean(mask > 127))
    height, width = gray.shape
    return Seen(seen.name, seen.part, seen.path, seen.masks, width, height, share, picture_hash(gray))


def _changed(manifest: DatasetManifest, folder: Path, seen: list[Seen]) -> list[str]:
    """Where the files differ from dataset.json."""
    there = {one.path.relative_to(folder).as_posix(): one.path for one in seen}
    known = {entry.image: entry.sha256 for entry in manifest.pictures}
    lines = [f"{name} is in dataset.json but not there" for name in known if name not in there]
    lines += [f"{name} is not in dataset.json" for name in there if name not in known]
    for name, path in there.items():
        if name in known and hashlib.sha256(path.read_bytes()).hexdigest() != known[name]:
            lines.append(f"{name} has other bytes than when it was imported")
    return lines
