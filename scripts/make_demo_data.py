"""Make nakt_fed/demo/data from the prepared data sets: `python scripts/make_demo_data.py DATA_ROOT`.

DATA_ROOT holds one folder per data set with images/, masks/ and selection.csv. Only data sets whose terms allow it are
taken. The same DATA_ROOT and Pillow give the same bytes; sources.csv lists every file with its SHA-256.
"""

import argparse
import csv
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

TARGET = Path(__file__).parents[1] / "nakt_fed/demo/data"
SITES = {"logiq7": "breast-busbra-logiq7", "logiq5": "breast-busbra-logiq5", "busi": "breast-busi"}
TRANSFERAL = {"transferal/nerve": "nerve-usgra", "transferal/skin": "skin-isic2017"}
LONGEST_SIDE = 128
JPEG_QUALITY = 90
MAX_BYTES = 3_900_000
COLUMNS = ["file", "dataset", "group", "source", "sha256"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_root", type=Path)
    parser.add_argument("--target", type=Path, default=TARGET)
    arguments = parser.parse_args()
    make(arguments.data_root, arguments.target)


def make(data_root: Path, target: Path) -> None:
    """Replace the pictures, sources.csv and the licence text in `target`; README.md there is written by hand."""
    for folder in SITES | TRANSFERAL:
        shutil.rmtree(target / folder, ignore_errors=True)
    rows = [row for folder, dataset in (SITES | TRANSFERAL).items() for row in ship(data_root, dataset, target, folder)]
    with (target / "sources.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *rows])
    shutil.copyfile(data_root / SITES["logiq7"] / "LICENSE.txt", target / "LICENSE-BUS-BRA.txt")
    total = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    assert total <= MAX_BYTES, f"{total} bytes; lower JPEG_QUALITY"
    print(f"{len(rows)} files, {total:,} bytes in {target}")


def ship(data_root: Path, dataset: str, target: Path, folder: str) -> Iterator[list[str]]:
    """Write the pictures of one data set, and for a site the masks; yield their rows of sources.csv."""
    source = data_root / dataset
    for row in sorted(csv.DictReader((source / "selection.csv").open(encoding="utf-8")), key=lambda row: row["name"]):
        files = [ship_image(source / f"images/{row['name']}.png", target / folder / "images")]
        if folder in SITES:
            files.append(ship_mask(source / f"masks/{row['name']}.png", target / folder / "masks"))
        for file in files:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            yield [file.relative_to(target).as_posix(), dataset, row["group"], row["source_file"], digest]


def ship_image(source: Path, folder: Path) -> Path:
    with Image.open(source) as picture:
        small = picture.convert("L").resize(small_size(picture), Image.Resampling.LANCZOS)
    file = made(folder) / f"{source.stem}.jpg"
    small.save(file, quality=JPEG_QUALITY, optimize=True)
    return file


def ship_mask(source: Path, folder: Path) -> Path:
    """Made smaller by area averaging and cut at one half, one bit per pixel."""
    with Image.open(source) as mask:
        small = mask.convert("L").resize(small_size(mask), Image.Resampling.BOX)
    file = made(folder) / f"{source.stem}.png"
    small.point(lambda value: 255 * (value >= 128)).convert("1").save(file, optimize=True)
    return file


def small_size(picture: Image.Image) -> tuple[int, int]:
    factor = LONGEST_SIDE / max(picture.size)
    return round(picture.width * factor), round(picture.height * factor)


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
