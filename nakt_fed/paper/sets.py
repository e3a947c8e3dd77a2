"""Which folders play the paper's data sets (its section 4)."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from nakt_fed.data.listing import labels, list_pictures, picture_files
from nakt_fed.errors import DataError
from nakt_fed.toml_file import parse, read_toml
from nakt_fed.toml_types import Part, Place

DEFAULT = Path(__file__).parent / "sets.toml"
TRANSFERAL = ("baheya", "thyroid", "nerve", "skin", "voc")
TITLES = {
    "breast1": "XXX Breast Lesion-1",
    "breast2": "XXX Breast Lesion-2",
    "baheya": "Baheya Breast Lesion",
    "thyroid": "Thyroid Nodule",
    "nerve": "Nerve Structure",
    "skin": "Skin Lesion",
    "voc": "PASCAL VOC2012",
}
"""As the paper calls them."""


class PaperSet(Part):
    """A folder of pictures; masks where something is trained on or tested against them."""

    images: Place
    masks: Place | None = None


class PaperSets(Part):
    """The paper's seven sets."""

    breast1: PaperSet | None = None
    breast2: PaperSet | None = None
    baheya: PaperSet | None = None
    thyroid: PaperSet | None = None
    nerve: PaperSet | None = None
    skin: PaperSet | None = None
    voc: PaperSet | None = None

    def get(self, name: str, annotated: bool = False) -> PaperSet:
        """One set. Raises DataError: it is not there, or has no masks where they are needed."""
        found: PaperSet | None = getattr(self, name)
        if found is None:
            raise DataError(
                f"the set {name!r} ({TITLES[name]}) is needed; add [{name}] with its images to the file of sets"
            )
        if annotated and found.masks is None:
            raise DataError(f"the set {name!r} ({TITLES[name]}) needs masks; add {name}.masks to the file of sets")
        return found

    def transferal(self) -> list[str]:
        """The names of the transferal sets that are there, in the paper's order."""
        return [name for name in TRANSFERAL if getattr(self, name) is not None]

    def there(self) -> Iterator[tuple[str, PaperSet]]:
        """All that are there, in the order of the paper's Figure 2."""
        yield from ((name, found) for name in TITLES if (found := getattr(self, name)) is not None)

    def told(self) -> str:
        """Which folder stands for which of the paper's sets."""
        return ", ".join(f"{TITLES[name]} = {label(found)}" for name, found in self.there())


def label(found: PaperSet) -> str:
    """What its folder is called."""
    return labels([found.images])[0]


def load_sets(root: Path, path: Path | None = None) -> PaperSets:
    """The mapping in `path`, else the default one; its folders are relative to `root`.

    Raises:
        StudyError: the file cannot be used.
    """
    path, raw = read_toml(path or DEFAULT, "file of sets")
    return parse(PaperSets, raw, root.expanduser().resolve(), str(path))


def fingerprint(found: PaperSet) -> str:
    """Changes when a picture is added, removed or replaced by one of another size in bytes; the folder may move.

    Raises:
        DataError: as `list_pictures`.
    """
    paths = list_pictures(found.images) + (picture_files(found.masks) if found.masks else [])
    files = [(path.name, path.stat().st_size) for path in paths]
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]
