"""Which files of a folder are pictures, which are masks, and what they are called."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from nakt_fed.data.pictures import SUFFIXES
from nakt_fed.errors import DataError

MASK_NAME = re.compile(r"(?P<stem>.+)_mask(_\d+)?")


def list_pictures(folder: Path) -> list[Path]:
    """The picture files of a folder, by name.

    A mask that lies beside its picture (`x_mask.png` beside `x.png`) is not a picture. Hidden files, folders and files
    of other kinds are passed over.

    Raises:
        DataError: the folder is missing, is a file or has no picture; two pictures differ only in their extension; a
            picture is a link to nothing, or has a name that is not UTF-8.
    """
    files = picture_files(folder)
    stems = {stem_of(path) for path in files}
    pictures = [path for path in files if not _is_mask_beside(stem_of(path), stems)]
    if not pictures:
        known = ", ".join(sorted(SUFFIXES))
        raise DataError(f"folder {folder} has no picture ({known}); put the pictures there or correct the path")
    _refuse_same_stem(pictures)
    return pictures


def list_transferal(folders: Iterable[Path]) -> list[tuple[str, Path]]:
    """(id, file) of every picture; ids are "<label>/<stem>". Raises DataError as `list_pictures`."""
    folders = list(folders)
    return [
        (f"{label}/{stem_of(path)}", path)
        for label, folder in zip(labels(folders), folders, strict=True)
        for path in list_pictures(folder)
    ]


def labels(folders: Iterable[Path]) -> list[str]:
    """A folder's name, or its parent's when it is called "images"; where a name is taken already, with -2, -3, ..."""
    taken: list[str] = []
    for folder in folders:
        path = Path(folder).resolve()
        name = unicodedata.normalize("NFC", path.parent.name if path.name.lower() == "images" else path.name)
        label, number = name, 1
        while label in taken:
            number += 1
            label = f"{name}-{number}"
        taken.append(label)
    return taken


def masks_of(pictures: list[Path], masks_dir: Path) -> dict[Path, list[Path]]:
    """Every picture's mask files: `x`, `x_mask`, `x_mask_1`, ... belong to `x`. Masks of no picture are passed over.

    Raises:
        DataError: a picture has no mask, or `masks_dir` is missing.
    """
    found = masks_found(pictures, masks_dir)
    _refuse_lonely([path for path in pictures if not found[path]], len(pictures), masks_dir)
    return found


def masks_found(pictures: list[Path], masks_dir: Path) -> dict[Path, list[Path]]:
    """As `masks_of`, but a picture without a mask has an empty list."""
    owner = {stem_of(path): path for path in pictures}
    found: dict[Path, list[Path]] = {path: [] for path in pictures}
    own = {path.resolve() for path in pictures}  # pictures and masks may lie in one folder
    for path in picture_files(masks_dir):
        if path.resolve() in own:
            continue
        stem = stem_of(path)
        match = MASK_NAME.fullmatch(stem)
        picture = owner.get(stem) or (owner.get(match["stem"]) if match else None)
        if picture:
            found[picture].append(path)
    return found


def picture_files(folder: Path) -> list[Path]:
    """Visible files with the suffix of a picture, masks too, by name. Raises DataError where there is no folder."""
    try:
        entries = sorted(Path(folder).iterdir(), key=lambda path: unicodedata.normalize("NFC", path.name))
    except FileNotFoundError:
        raise DataError(f"folder {folder} is not there; check the path") from None
    except NotADirectoryError:
        raise DataError(f"{folder} is a file; give the folder that holds the pictures") from None
    except PermissionError:
        raise DataError(f"folder {folder} may not be read; change its permissions") from None
    visible = [path for path in entries if not path.name.startswith(".") and path.suffix.lower() in SUFFIXES]
    for path in visible:
        _refuse_lost(path)
    return [path for path in visible if path.is_file()]


def _refuse_lost(path: Path) -> None:
    """A picture that would be missing without a word, or whose name no manifest can hold."""
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path} is a link to a file that is not there; mend the link or remove it")
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise DataError(f"the name of {str(path)!r} is not UTF-8; rename the file") from None


def stem_of(path: Path) -> str:
    """File name without extension, in composed letters: macOS hands out decomposed ones."""
    return unicodedata.normalize("NFC", path.stem)


def _is_mask_beside(stem: str, stems: set[str]) -> bool:
    match = MASK_NAME.fullmatch(stem)
    return match is not None and match["stem"] in stems


def _refuse_same_stem(pictures: list[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in pictures:
        twin = seen.setdefault(stem_of(path), path)
        if twin is not path:
            stem = stem_of(path)
            raise DataError(f"{twin} and {path.name} would both be called {stem!r}; rename or remove one of them")


def _refuse_lonely(lonely: list[Path], total: int, masks_dir: Path) -> None:
    if lonely:
        first = lonely[0]
        raise DataError(
            f"{len(lonely)} of {total} pictures have no mask in {masks_dir}, the first is {first}; "
            f"add {first.stem}.png or {first.stem}_mask.png (all black where nothing is marked) or remove the picture"
        )
