"""DDTI: 1.xml with outlines of nodules in the pictures 1_1.jpg, 1_2.jpg, ... of case 1."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw

from nakt_fed.data.imports.source import Kind, Listing, MaskReader, Options, Picture, Shape, broken, single
from nakt_fed.data.listing import picture_files
from nakt_fed.data.pictures import Gray
from nakt_fed.errors import DataError

FILE = re.compile(r"(?P<case>\d+)_(?P<number>\d+)")
OUTLINE = re.compile(r'"points"\s*:\s*\[(.*?)\]', re.DOTALL)
POINT = re.compile(r'"x"\s*:\s*(-?[\d.]+)\s*,\s*"y"\s*:\s*(-?[\d.]+)')
Outline = list[tuple[float, float]]


def fits(folder: Path) -> bool:
    """Whether a case's XML lies beside its pictures."""
    return any(path.stem.isdigit() and any(folder.glob(f"{path.stem}_*.jpg")) for path in folder.glob("*.xml"))


def find(root: Path, options: Options) -> Listing:
    """Pictures with an outline, by case; those without one only for a transferal set."""
    marks = cache(_marks)
    items, left_out = [], Counter[str]()
    for path in picture_files(root):
        match = FILE.fullmatch(path.stem)
        if not match:
            continue
        found = {} if options.transferal else marks(root / f"{match['case']}.xml")
        if isinstance(found, DataError):
            items.append(broken(path.stem, path.name, found))
        elif options.transferal or found.get(match["number"]):
            mask = _drawn(found.get(match["number"], []))
            items.append(single(Picture(path.stem, path.name, path, mask, group=f"case {match['case']}")))
        else:
            left_out["without an outline"] += 1
    return Listing(items, annotated=True, left_out=left_out)


def _marks(path: Path) -> dict[str, list[Outline]] | DataError:
    """The outlines of each picture of a case; or what is wrong with the file.

    They are JSON inside the XML; two cases of the published set (197 and 205) are cut off behind the last point, so
    the points are looked for as they stand.
    """
    try:
        marks = ElementTree.parse(path).iter("mark")
    except FileNotFoundError:
        return {}
    except ElementTree.ParseError as error:
        return DataError(f"{path} is no XML ({error}); download it again")
    found: dict[str, list[Outline]] = {}
    for mark in marks:
        outlines = list(_outlines(mark.findtext("svg") or ""))
        found.setdefault((mark.findtext("image") or "").strip(), []).extend(outlines)
    return found


def _outlines(text: str) -> Iterator[Outline]:
    for points in OUTLINE.findall(text):
        outline = [(float(x), float(y)) for x, y in POINT.findall(points)]
        if len(outline) > 2:
            yield outline


def _drawn(outlines: list[Outline]) -> MaskReader | None:
    def draw(shape: Shape) -> Gray:
        mask = Image.new("L", (shape[1], shape[0]))
        for outline in outlines:
            ImageDraw.Draw(mask).polygon(outline, fill=255, outline=255)
        return np.asarray(mask)

    return draw if outlines else None


KIND = Kind(
    "ddti",
    "DDTI: thyroid nodules in ultrasound, IDIME, Bogota",
    "`1.xml` beside `1_1.jpg`",
    fits,
    find,
    "open access; no licence text found; citation expected",
    'L. Pedraza, C. Vargas, F. Narvaez, O. Duran, E. Munoz, E. Romero, "An open access thyroid ultrasound image '
    'database", Proc. SPIE 9287, 92870W, 2015, doi 10.1117/12.2073532',
    grouped_by="patient",
)
