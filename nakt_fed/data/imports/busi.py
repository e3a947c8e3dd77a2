"""BUSI: benign/, malignant/ and normal/, `benign (1).png` with `benign (1)_mask.png`, `benign (4)_mask_1.png`, ..."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from nakt_fed.data.imports.source import Item, Kind, Listing, Options, Picture, mask_files, single
from nakt_fed.data.listing import picture_files

CLASSES = ("benign", "malignant")
FILE = re.compile(r"(?P<label>benign|malignant|normal) \((?P<number>\d+)\)(?P<mask>_mask(_\d+)?)?")


def fits(folder: Path) -> bool:
    """Whether both class folders are there and hold what their names say."""
    return all((folder / label).is_dir() and any(_pictures(folder / label)) for label in CLASSES)


def find(root: Path, options: Options) -> Listing:
    """Lesions with the union of their masks; the class normal is left out, as in the paper."""
    items = [item for label in CLASSES for item in _items(root / label)]
    normal = sum(1 for _ in _pictures(root / "normal")) if (root / "normal").is_dir() else 0
    return Listing(items, annotated=True, left_out=Counter({"of the class normal": normal} if normal else {}))


def _pictures(folder: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    for path in picture_files(folder):
        match = FILE.fullmatch(path.stem)
        if match and not match["mask"]:
            yield path, match


def _items(folder: Path) -> Iterator[Item]:
    masks: dict[str, list[Path]] = {}
    for path in picture_files(folder):
        match = FILE.fullmatch(path.stem)
        if match and match["mask"]:
            masks.setdefault(match["number"], []).append(path)
    for path, match in _pictures(folder):
        name, source = f"{match['label']}_{int(match['number']):04d}", f"{folder.name}/{path.name}"
        mask = mask_files(masks.get(match["number"], []), path)
        yield single(Picture(name, source, path, mask, label=match["label"]))


KIND = Kind(
    "busi",
    "BUSI: breast ultrasound images, Baheya Hospital, Cairo",
    "folders benign/ and malignant/ that hold `benign (1).png` and `benign (1)_mask.png`",
    fits,
    find,
    "open access with the article; recorded as CC BY 4.0 by MedMNIST, which is made from it",
    'W. Al-Dhabyani, M. Gomaa, H. Khaled, A. Fahmy, "Dataset of breast ultrasound images", Data in Brief 28, 104863, 2020, '
    "doi 10.1016/j.dib.2019.104863",
    remark="BUSI is known for repeated pictures, some under both classes (A. Pawlowska, P. Karwat, N. Zolek, "
    "Data in Brief 48, 109247, 2023); it has no patient numbers, so only those that look alike are kept on one side",
)
