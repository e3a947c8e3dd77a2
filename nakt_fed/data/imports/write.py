"""Write what an importer reads: checked, under its new name, with hash and sizes."""

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from nakt_fed.data.imports.manifest import Fault
from nakt_fed.data.imports.source import Item, Picture
from nakt_fed.data.pictures import MIN_SIDE, Gray, read_gray
from nakt_fed.data.twins import Hash, picture_hash
from nakt_fed.errors import DataError


@dataclass(frozen=True)
class Written:
    """A picture as it lies on disk; `image` and `mask` are relative to the folder."""

    picture: Picture
    image: str
    mask: str | None
    width: int
    height: int
    foreground: float | None
    sha256: str
    looks: Hash


def write_item(item: Item, root: Path, folder: Path, masks: bool) -> list[Written] | Fault:
    """All pictures of one source file, or why it cannot be used; messages name files relative to `root`."""
    try:
        return [_write(picture, folder, masks) for picture in item.read()]
    except DataError as error:
        return Fault(source=item.source, reason=str(error).replace(f"{root}/", ""))


def _write(picture: Picture, folder: Path, masks: bool) -> Written:
    gray = picture.image if isinstance(picture.image, np.ndarray) else read_gray(picture.image)
    if min(gray.shape) < MIN_SIDE:
        raise DataError(
            f"{picture.source} has {gray.shape[1]}×{gray.shape[0]} pixels, at least 8×8 are needed; remove it"
        )
    mask = _mask(picture, gray.shape) if masks else None
    image = _save_image(picture, folder)
    if mask is not None:
        Image.fromarray(mask).save(folder / "masks" / f"{picture.name}.png")
    return Written(
        replace(picture, image=folder / image, mask=None),
        image,
        None if mask is None else f"masks/{picture.name}.png",
        gray.shape[1],
        gray.shape[0],
        None if mask is None else round(float((mask > 127).mean()), 6),
        hashlib.sha256((folder / image).read_bytes()).hexdigest(),
        picture_hash(gray),
    )


def _mask(picture: Picture, shape: tuple[int, ...]) -> Gray:
    if picture.mask is None:
        raise DataError(f"{picture.source} has no mask; download the set again, or import it as a transferal set")
    mask = picture.mask(shape)
    if mask.shape != shape:
        raise DataError(
            f"the mask of {picture.source} has {mask.shape[1]}×{mask.shape[0]} pixels, but the picture "
            f"{shape[1]}×{shape[0]}; export the mask at the picture's size"
        )
    return mask


def _save_image(picture: Picture, folder: Path) -> str:
    """A file is copied as it is, colours included; an array becomes a PNG."""
    if isinstance(picture.image, np.ndarray):
        image = f"images/{picture.name}.png"
        Image.fromarray(picture.image).save(folder / image)
    else:
        image = f"images/{picture.name}{picture.image.suffix.lower()}"
        shutil.copyfile(picture.image, folder / image)
    return image
