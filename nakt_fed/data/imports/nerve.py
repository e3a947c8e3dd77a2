"""Kaggle's ultrasound nerve segmentation: train/1_1.tif with train/1_1_mask.tif; test/1.tif has no mask."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from nakt_fed.data.imports.source import Item, Kind, Listing, Options, Picture, mask_files, single
from nakt_fed.data.listing import picture_files

FILE = re.compile(r"(?P<subject>\d+)_(?P<number>\d+)")


def fits(folder: Path) -> bool:
    """Whether train/ holds a picture and its mask under the names of the competition."""
    train = folder / "train"
    return train.is_dir() and any(FILE.fullmatch(path.stem.removesuffix("_mask")) for path in train.glob("*_mask.tif"))


def find(root: Path, options: Options) -> Listing:
    """The training part by subject; the test part, which has no masks, only for a transferal set."""
    items = list(_training(root / "train"))
    test = [path for path in picture_files(root / "test") if path.stem.isdigit()] if (root / "test").is_dir() else []
    if options.transferal:
        items += [single(Picture(f"test_{path.stem}", f"test/{path.name}", path, part="test")) for path in test]
    left_out = Counter({"of the test part, which has no masks": len(test)} if test and not options.transferal else {})
    return Listing(items, annotated=True, left_out=left_out)


def _training(folder: Path) -> Iterator[Item]:
    files = {path.stem: path for path in picture_files(folder)}
    for stem, path in files.items():
        match = FILE.fullmatch(stem)
        if match:
            masks = [files[f"{stem}_mask"]] if f"{stem}_mask" in files else []
            source, subject = f"train/{path.name}", f"subject {match['subject']}"
            yield single(Picture(stem, source, path, mask_files(masks, path), group=subject, part="training"))


KIND = Kind(
    "nerve",
    "Ultrasound nerve segmentation (brachial plexus), Kaggle 2016",
    "folder train/ that holds `1_1.tif` and `1_1_mask.tif`",
    fits,
    find,
    "rules of the Kaggle competition ultrasound-nerve-segmentation: not to be passed on",
    "A. Montoya, Hasnin, kaggle446, shirzad, W. Cukierski, yffud, Ultrasound Nerve Segmentation, Kaggle, 2016",
    grouped_by="patient",
    remark="frames of one video are near-duplicates, some with contradicting masks; all of a subject stay on one side",
)
