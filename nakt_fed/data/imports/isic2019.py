"""ISIC 2019: ISIC_2019_Training_Input/ and two CSV files; classes and lesion numbers, no masks."""

from collections.abc import Iterator
from pathlib import Path

from nakt_fed.data.imports.source import Item, Kind, Listing, Options, Picture, plain, read_table, single
from nakt_fed.data.listing import picture_files

PICTURES, TRUTH = "ISIC_2019_Training_Input", "ISIC_2019_Training_GroundTruth.csv"
METADATA = "ISIC_2019_Training_Metadata.csv"


def fits(folder: Path) -> bool:
    """Whether the folder of the pictures is there."""
    return (folder / PICTURES).is_dir()


def find(root: Path, options: Options) -> Listing:
    """The training part; age, sex and place, which the metadata also hold, are not taken over."""
    return Listing(list(_items(root)), annotated=False)


def _items(root: Path) -> Iterator[Item]:
    lesions, classes = _lesions(root / METADATA), _classes(root / TRUTH)
    inner = root / PICTURES / PICTURES  # some copies hold the folder twice
    for path in picture_files(inner if inner.is_dir() else root / PICTURES):
        name, source = path.stem, f"{PICTURES}/{path.name}"
        yield single(
            Picture(plain(name), source, path, group=lesions.get(name), label=classes.get(name), part="training")
        )


def _lesions(path: Path) -> dict[str, str]:
    """Lesion of each picture; of some it isn't known. Without the file nothing is known."""
    rows = read_table(path, "image", "lesion_id") if path.is_file() else []
    return {row["image"]: row["lesion_id"] for row in rows if row["lesion_id"]}


def _classes(path: Path) -> dict[str, str]:
    rows = read_table(path, "image") if path.is_file() else []
    hot = {row["image"]: [key for key, value in row.items() if key != "image" and _is_one(value)] for row in rows}
    return {name: found[0] for name, found in hot.items() if found}


def _is_one(value: str) -> bool:
    return value.strip() in ("1", "1.0")


KIND = Kind(
    "isic2019",
    "ISIC 2019 challenge: dermoscopy in eight classes",
    f"folder {PICTURES}/ that holds `ISIC_0000000.jpg`, beside it {METADATA} and {TRUTH}",
    fits,
    find,
    "CC BY-NC 4.0",
    'P. Tschandl, C. Rosendahl, H. Kittler, "The HAM10000 dataset", Scientific Data 5, 180161, 2018; N. Codella et al., '
    'arXiv 1710.05006; M. Combalia et al., "BCN20000: Dermoscopic Lesions in the Wild", arXiv 1908.02288',
    grouped_by="lesion",
)
