"""From a DICOM file to gray pictures as a viewer shows them. Only the elements listed here are read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from nakt_fed.data.imports.private import anonymous, library, to_gray
from nakt_fed.data.pictures import Gray
from nakt_fed.errors import DataError

STORED = (
    "SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation "
    "PlanarConfiguration NumberOfFrames ExtendedOffsetTable ExtendedOffsetTableLengths PixelData"
)
SHOWN = (
    "PhotometricInterpretation BitsStored PixelRepresentation RescaleSlope RescaleIntercept ModalityLUTSequence WindowCenter WindowWidth "
    "VOILUTFunction VOILUTSequence"
)
PALETTE = " ".join(
    f"{kind}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for kind, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
PER_FRAME = "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence"
TRANSFORMS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")

Window = tuple[float, float]
Values = npt.NDArray[Any]


def grays(path: Path, place: str, window: Window | None) -> Iterator[Gray]:
    """(h, w) uint8 per frame: rescaled (PS3.3 C.11.1), windowed (C.11.2), and turned over for MONOCHROME1.

    Args:
        window: (centre, width) in rescaled units instead of the file's own. Where there is neither, 8 bits stay as they
            are and more are stretched from the file's darkest to its brightest value.

    Raises:
        DataError: the file is damaged, its compression has no decoder here, or its colours are of an unknown kind.
    """
    header = _dataset(path, place)
    kind = str(header.get("PhotometricInterpretation"))
    if not kind.startswith("MONOCHROME"):
        yield from _coloured(header, place, kind)
        return
    ends = _ends(header, place) if not window and not _plain(header) else (0.0, 255.0)
    for number, values in enumerate(_decoded(header, place)):
        gray = _windowed(_rescaled(values, _facts(header, number)), _facts(header, number), window, ends)
        yield 255 - gray if kind == "MONOCHROME1" else gray


def frames(path: Path, place: str) -> Iterator[Values]:
    """(h, w) stored values per frame. Raises DataError as `grays`."""
    yield from _decoded(_dataset(path, place), place)


def _dataset(path: Path, place: str) -> Any:
    with anonymous(place, "DICOM"):
        tags = f"{STORED} {SHOWN} {PALETTE} {PER_FRAME}".split()
        return library("pydicom", "DICOM").dcmread(path, specific_tags=tags)


def _decoded(header: Any, place: str) -> Iterator[Values]:
    syntax = header.file_meta.get("TransferSyntaxUID")
    try:
        yield from library("pydicom.pixels", "DICOM").iter_pixels(header)
    except (RuntimeError, NotImplementedError):
        raise DataError(
            f"{place} is compressed as {getattr(syntax, 'name', 'unknown')}, for which no decoder is installed or which is "
            "damaged; decompress it first, for example with gdcmconv --raw"
        ) from None


def _coloured(header: Any, place: str, kind: str) -> Iterator[Gray]:
    """Luma; pydicom has made RGB of YBR already."""
    processing = library("pydicom.pixels", "DICOM")
    for values in _decoded(header, place):
        colours = processing.apply_color_lut(values, header) if kind == "PALETTE COLOR" else values
        if colours.ndim != 3 or colours.shape[-1] != 3 or colours.dtype not in (np.uint8, np.uint16):
            raise DataError(f"{place} has pixels of the kind {kind}; save it as MONOCHROME2 or RGB")
        eight = (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours
        yield np.asarray(Image.fromarray(np.ascontiguousarray(eight)).convert("L"))


def _facts(header: Any, number: int) -> Any:
    """How frame `number` is shown: the file's own elements, or those that an enhanced file holds for each frame."""
    facts = library("pydicom", "DICOM").Dataset()
    groups = [header.get("SharedFunctionalGroupsSequence") or [], header.get("PerFrameFunctionalGroupsSequence") or []]
    own = [group[min(number, len(group) - 1)] for group in groups if len(group)]
    parts = [header] + [item for group in own for name in TRANSFORMS for item in group.get(name) or []]
    for part in parts:
        facts.update({element.tag: element for element in part if element.keyword in SHOWN.split()})
    return facts


def _rescaled(values: Values, facts: Any) -> Values:
    return np.asarray(library("pydicom.pixels", "DICOM").apply_modality_lut(values, facts))


def _has_window(facts: Any) -> bool:
    width = facts.get("WindowWidth")
    first = width[0] if getattr(width, "__len__", None) and len(width) else width
    return bool(facts.get("VOILUTSequence")) or (first is not None and float(first) >= 1)


def _plain(header: Any) -> bool:
    """Whether no stretching from darkest to brightest is needed."""
    facts = _facts(header, 0)
    rescaled = "RescaleSlope" in facts or "ModalityLUTSequence" in facts
    return _has_window(facts) or (facts.BitsStored <= 8 and not facts.PixelRepresentation and not rescaled)


def _ends(header: Any, place: str) -> tuple[float, float]:
    """The darkest and the brightest value of all frames."""
    low, high = np.inf, -np.inf
    for number, values in enumerate(_decoded(header, place)):
        shown = _rescaled(values, _facts(header, number))
        low, high = min(low, float(shown.min())), max(high, float(shown.max()))
    return low, high


def _windowed(values: Values, facts: Any, window: Window | None, ends: tuple[float, float]) -> Gray:
    if window:
        centre, width = window
        return to_gray(values, centre - width / 2, centre + width / 2)
    if not _has_window(facts):
        return to_gray(values, *ends)
    pixels = library("pydicom.pixels", "DICOM")
    if facts.get("VOILUTSequence"):
        bits = facts.VOILUTSequence[0].LUTDescriptor[2]
        return to_gray(pixels.apply_voi_lut(values, facts), 0, 2**bits - 1)
    with np.errstate(over="ignore"):  # a sigmoid far outside its window
        low, high = pixels.apply_windowing(np.array([-1e12, 1e12]), facts)
        return to_gray(pixels.apply_windowing(values, facts), low, high)
