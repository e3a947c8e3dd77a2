"""What an importer of one kind of data set provides, and what several of them need."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nakt_fed.data.folders import united_mask
from nakt_fed.data.pictures import Gray
from nakt_fed.errors import DataError

Shape = tuple[int, ...]
MaskReader = Callable[[Shape], Gray]
Plane = Literal["axial", "coronal", "sagittal"]
DEPTH = 2
"""Archives unpack to a folder in a folder: so far below SRC a layout is looked for."""


@dataclass(frozen=True)
class Options:
    """What a user chose. `window` is (centre, width) in the file's units; `labels` are taken as foreground (NIfTI)."""

    seed: int = 0
    transferal: bool = False
    window: tuple[float, float] | None = None
    plane: Plane = "axial"
    labels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Picture:
    """One picture as it will be written.

    name: its file name without ending. source: where it comes from, without anything private.
    image: the file to be copied, or (h, w) uint8. mask: gives (h, w) uint8 0 or 255 for the picture's shape.
    group: patient, case or lesion. label: the class of the picture. part: the publisher's own part (training, test).
    """

    name: str
    source: str
    image: Path | Gray
    mask: MaskReader | None = None
    group: str | None = None
    label: str | None = None
    scanner: str | None = None
    part: str | None = None


@dataclass(frozen=True)
class Item:
    """One file of the source; `read` gives its picture, or all pictures of a volume. `name` begins all their names."""

    name: str
    source: str
    read: Callable[[], Iterable[Picture]]


@dataclass(frozen=True)
class Listing:
    """What there is to import. `left_out` counts what the kind passes over, by reason."""

    items: list[Item]
    annotated: bool
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Kind:
    """An importer. `fits` says whether a folder is the set's root; `grouped_by` what a group is, if known."""

    name: str
    title: str
    expected: str
    fits: Callable[[Path], bool]
    find: Callable[[Path, Options], Listing]
    licence: str
    citation: str
    grouped_by: str = ""
    remark: str = ""

    def root(self, source: Path) -> Path | None:
        """The set's root: `source` or a folder at most two levels below; None when there is none."""
        return next((folder for folder in _folders(source, DEPTH) if self.fits(folder)), None)


def _folders(top: Path, depth: int) -> Iterator[Path]:
    yield top
    if depth:
        for path in sorted(top.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                yield from _folders(path, depth - 1)


def single(picture: Picture) -> Item:
    """A file that is one picture."""
    return Item(picture.name, picture.source, lambda: [picture])


def broken(name: str, source: str, error: DataError) -> Item:
    """A file of which is known already that it cannot be read."""

    def read() -> Iterable[Picture]:
        raise error

    return Item(name, source, read)


def mask_files(paths: Sequence[Path], image: Path) -> MaskReader | None:
    """The union of mask files; None where there are none."""
    return (lambda shape: united_mask(list(paths), image, shape)) if paths else None


def plain(stem: str) -> str:
    """A file name of letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^\w.-]+", "_", stem).strip("_")


def read_table(path: Path, *columns: str) -> list[dict[str, str]]:
    """Rows of a CSV file.

    Raises:
        DataError: the file is not there, is no text, or lacks one of the columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or [])]
            rows = [{key: value or "" for key, value in row.items() if key} for row in reader]
    except FileNotFoundError:
        raise DataError(f"{path} is not there; it belongs to the data set, download it again") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text; download it again") from None
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; download it again from its authors")
    return rows
