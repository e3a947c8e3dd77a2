"""The table of kinds: `nakt data import KIND`."""

from pathlib import Path

from nakt_fed.data.imports import busbra, busi, ddti, dicom, isic2019, isic_masks, nerve, nifti, voc2012
from nakt_fed.data.imports.source import Kind
from nakt_fed.errors import DataError

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        busi.KIND,
        nerve.KIND,
        isic_masks.ISIC2017,
        isic_masks.ISIC2018,
        isic2019.KIND,
        voc2012.KIND,
        ddti.KIND,
        busbra.KIND,
        dicom.KIND,
        nifti.KIND,
    )
}


def root_of(name: str, source: Path) -> tuple[Kind, Path]:
    """The kind, and the root of such a set at or below `source`.

    Raises:
        DataError: there is no such kind, no such folder, or the folder has another layout; when another kind fits, it
            is named.
    """
    if name not in KINDS:
        raise DataError(f"there is no kind {name!r}; known are {', '.join(KINDS)}")
    kind = KINDS[name]
    if source.is_file():
        raise DataError(f"{source} is a file; unpack it, and give the folder that holds {kind.expected}")
    if not source.is_dir():
        raise DataError(f"folder {source} is not there; give the folder that holds {kind.expected}")
    root = kind.root(source)
    if root is None:
        raise DataError(f"{source} has not the layout of {name}: expected {kind.expected}; {_guess(source)}")
    return kind, root


def _guess(source: Path) -> str:
    fitting = [kind.name for kind in KINDS.values() if kind.root(source)]
    if fitting:
        return f"it looks like the kind {' or '.join(fitting)}: nakt data import {fitting[0]} ..."
    if (source / "images").is_dir():
        return "it has a folder images/, so it may be in the project's form already: nakt data inspect"
    return "give the folder that the archive unpacks to"
