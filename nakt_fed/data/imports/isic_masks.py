"""ISIC 2017 and ISIC 2018 (task 1): a folder of pictures and one of masks `ISIC_0000000_segmentation.png` per part."""

import re
from collections.abc import Iterator
from pathlib import Path

from nakt_fed.data.imports.source import Item, Kind, Listing, Options, Picture, mask_files, single
from nakt_fed.data.listing import picture_files

Folders = tuple[re.Pattern[str], str]
FOLDERS: dict[str, Folders] = {
    "isic2017": (re.compile(r"ISIC-2017_(Training|Validation|Test)(_v2)?_Data"), "ISIC-2017_{}_Part1_GroundTruth"),
    "isic2018": (
        re.compile(r"ISIC2018_Task1-2_(Training|Validation|Test)(_v2)?_Input"),
        "ISIC2018_Task1_{}_GroundTruth",
    ),
}
PICTURE = re.compile(r"ISIC_\d+")


def _parts(root: Path, year: str) -> Iterator[tuple[str, Path, Path]]:
    """(part, folder of pictures, folder of masks)."""
    pattern, truth = FOLDERS[year]
    for folder in sorted(root.iterdir()):
        match = pattern.fullmatch(folder.name)
        if match and folder.is_dir():
            yield match[1].lower(), folder, root / truth.format(match[1] + (match[2] or ""))


def _find(root: Path, year: str) -> Listing:
    """All parts that are there; superpixels and whatever else lies beside the pictures are passed over."""
    return Listing([item for part in _parts(root, year) for item in _items(*part)], annotated=True)


def _items(part: str, folder: Path, truth: Path) -> Iterator[Item]:
    for path in picture_files(folder):
        if PICTURE.fullmatch(path.stem):
            mask = truth / f"{path.stem}_segmentation.png"
            read = mask_files([mask] if mask.is_file() else [], path)
            yield single(Picture(path.stem, f"{folder.name}/{path.name}", path, read, part=part))


def _kind(year: str, title: str, licence: str, citation: str) -> Kind:
    folder, truth = {
        "isic2017": ("ISIC-2017_Training_Data/", "ISIC-2017_Training_Part1_GroundTruth/"),
        "isic2018": ("ISIC2018_Task1-2_Training_Input/", "ISIC2018_Task1_Training_GroundTruth/"),
    }[year]

    def fits(root: Path) -> bool:
        return any(masks.is_dir() for _, _, masks in _parts(root, year))

    def find(root: Path, options: Options) -> Listing:
        return _find(root, year)

    expected = f"{folder} that holds `ISIC_0000000.jpg`, beside it {truth} that holds `ISIC_0000000_segmentation.png`"
    return Kind(year, title, expected, fits, find, licence, citation)


ISIC2017 = _kind(
    "isic2017",
    "ISIC 2017 challenge, part 1: lesion segmentation in dermoscopy",
    "CC0 1.0",
    'N. Codella et al., "Skin Lesion Analysis Toward Melanoma Detection: A Challenge at the 2017 ISBI, hosted by the '
    'ISIC", arXiv 1710.05006',
)
ISIC2018 = _kind(
    "isic2018",
    "ISIC 2018 challenge, task 1: lesion segmentation in dermoscopy",
    "CC BY-NC 4.0",
    'N. Codella et al., "Skin Lesion Analysis Toward Melanoma Detection 2018", arXiv 1902.03368; P. Tschandl, C. Rosendahl, '
    'H. Kittler, "The HAM10000 dataset", Scientific Data 5, 180161, 2018',
)
