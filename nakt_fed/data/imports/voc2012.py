"""PASCAL VOC 2012: JPEGImages/2007_000027.jpg; some pictures have SegmentationClass/2007_000027.png."""

from collections import Counter
from pathlib import Path

import numpy as np

from nakt_fed.data.imports.source import Kind, Listing, MaskReader, Options, Picture, Shape, plain, single
from nakt_fed.data.listing import picture_files
from nakt_fed.data.pictures import Gray, decode
from nakt_fed.errors import DataError

PICTURES, MASKS = "JPEGImages", "SegmentationClass"
VOID = 255


def fits(folder: Path) -> bool:
    """Whether the folder of the pictures is there."""
    return (folder / PICTURES).is_dir()


def find(root: Path, options: Options) -> Listing:
    """Pictures with a class map: any of the 20 classes is foreground. The others only for a transferal set."""
    pictures = picture_files(root / PICTURES)
    masks = {path.stem: path for path in picture_files(root / MASKS)} if (root / MASKS).is_dir() else {}
    parts = _parts(root / "ImageSets" / "Segmentation")
    taken = [path for path in pictures if options.transferal or path.stem in masks]
    items = [
        single(
            Picture(
                plain(path.stem),
                f"{PICTURES}/{path.name}",
                path,
                _mask(masks.get(path.stem)),
                part=parts.get(path.stem),
            )
        )
        for path in taken
    ]
    bare = len(pictures) - len(taken)
    return Listing(items, annotated=True, left_out=Counter({f"without a map in {MASKS}": bare} if bare else {}))


def _mask(path: Path | None) -> MaskReader | None:
    return (lambda shape: _foreground(path, shape)) if path else None


def _foreground(path: Path, shape: Shape) -> Gray:
    """(h, w) uint8: classes 1 to 20 are 255; background and the void border, index 255, are 0."""
    picture = decode(path)
    if picture.mode not in ("P", "L"):
        raise DataError(f"{path} is no map of classes but {picture.mode}; take the PNG of the original archive")
    classes = np.asarray(picture)
    return np.where((classes > 0) & (classes != VOID), 255, 0).astype(np.uint8)


def _parts(folder: Path) -> dict[str, str]:
    """The publishers' parts: ImageSets/Segmentation/train.txt and val.txt list names, one a line."""
    parts: dict[str, str] = {}
    for name, part in (("train", "training"), ("val", "validation")):
        if (folder / f"{name}.txt").is_file():
            parts |= dict.fromkeys((folder / f"{name}.txt").read_text(encoding="utf-8").split(), part)
    return parts


KIND = Kind(
    "voc2012",
    "PASCAL VOC 2012: natural pictures, 20 classes of objects",
    f"folder {PICTURES}/ that holds `2007_000027.jpg`, beside it {MASKS}/ that holds `2007_000027.png`",
    fits,
    find,
    "photos belong to their takers, under the terms of the photo site; research use",
    'M. Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", IJCV 111, 98-136, 2015',
)
