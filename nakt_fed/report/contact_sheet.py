"""A contact sheet of an inspected folder: a self-contained page with pictures, outlines and near-duplicates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nakt_fed.data.folders import united_mask
from nakt_fed.data.inspect_numbers import part_numbers
from nakt_fed.data.inspect_set import Inspection, Seen
from nakt_fed.data.pictures import read_gray, resize_image, resize_mask
from nakt_fed.report.gallery import Line
from nakt_fed.report.page import environment
from nakt_fed.report.pictures import SIDE, Picture, Tile, data_uri, outline
from nakt_fed.whole_file import write_whole

PER_PART = 48
GROUPS, PER_GROUP = 24, 8
"""At most so many are shown, evenly over the names, so that the page stays small; it says what it leaves out."""


def write_contact_sheet(found: Inspection, path: Path | str) -> Path:
    """Write the page and return its path. Pictures are stretched to a square, as the networks see them."""
    pictures: dict[str, Picture] = {}
    parts = {name: [_tile(one, pictures) for one in _spread(seen)] for name, seen in found.parts.items()}
    by_name = {one.name: one for one in found.pictures}
    across = found.across
    groups = (across + [group for group in found.near_duplicates if group not in across])[:GROUPS]
    lines = [
        Line(
            f"{len(group)} pictures{' in several parts' if group in across else ''}",
            [_tile(by_name[name], pictures) for name in group[:PER_GROUP]],
        )
        for group in groups
    ]
    page = (
        environment()
        .get_template("contact_sheet.html.j2")
        .render(
            found=found,
            numbers={name: part_numbers(seen) for name, seen in found.parts.items()},
            parts=parts,
            groups=lines,
            pictures=list(pictures.values()),
        )
    )
    return write_whole(Path(path), page)


def _spread(seen: Sequence[Seen]) -> list[Seen]:
    rows = np.linspace(0, len(seen) - 1, min(PER_PART, len(seen))).round().astype(int)
    return [seen[row] for row in rows]


def _tile(one: Seen, pictures: dict[str, Picture]) -> Tile:
    """The picture, embedded once, with the outline of its mask."""
    gray = read_gray(one.path)
    if one.name not in pictures:
        pictures[one.name] = Picture(f"p{len(pictures)}", data_uri(resize_image(gray, SIDE)))
    mask = united_mask(list(one.masks), one.path, gray.shape) if one.masks else None
    share = "" if one.foreground is None else f"{100 * one.foreground:.1f} %"
    return Tile(
        one.path.stem,
        f"{one.name}, foreground {share or 'unknown'}",
        pictures[one.name].key,
        mask="" if mask is None else outline(resize_mask(mask, SIDE)),
        value=share,
    )
