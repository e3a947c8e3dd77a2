"""DICOM files in any folders: the pixels, and of the header only what shows them; patients become numbers.

With images/ and masks/ below SRC, masks/a/b.dcm (or .png, .tif) marks what images/a/b.dcm shows.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nakt_fed.data.imports.dicom_pixels import frames, grays
from nakt_fed.data.imports.private import all_files, anonymous, library, numbered
from nakt_fed.data.imports.source import Item, Kind, Listing, MaskReader, Options, Picture, Shape
from nakt_fed.data.pictures import SUFFIXES, Gray, read_mask
from nakt_fed.errors import DataError

HEAD = (
    "PatientID StudyInstanceUID SeriesInstanceUID SOPInstanceUID InstanceNumber Rows NumberOfFrames BurnedInAnnotation"
)
SCANNER = "Manufacturer ManufacturerModelName"
LOOKED_AT = 200
"""Files that decide whether a folder looks like DICOM."""


@dataclass(frozen=True)
class Header:
    """`key` is the patient's, held in memory only; `place` is what messages call the file."""

    path: Path
    place: str
    key: str
    series: str
    order: tuple[int, str]
    frames: int
    scanner: str | None


def fits(folder: Path) -> bool:
    """Whether there is a DICOM file among the first files below."""
    return any(_is_dicom(path, f"file {number}") for number, path in enumerate(all_files(folder)[:LOOKED_AT], 1))


def find(root: Path, options: Options) -> Listing:
    """Every file with pixels, patient by patient; those that say that text is burned into the pixels are left out."""
    library("pydicom", "DICOM").config.settings.reading_validation_mode = 0  # else warnings would quote the header
    apart = (root / "images").is_dir() and (root / "masks").is_dir()
    left_out: Counter[str] = Counter()
    headers = []
    for number, path in enumerate(all_files(root), 1):
        if apart and path.relative_to(root).parts[0] != "images":
            continue
        header, why = (
            _header(path, f"file {number}") if _is_dicom(path, f"file {number}") else (None, "that are no DICOM")
        )
        headers += [header] if header else []
        left_out.update([why] if why else [])
    masks = _masks(root / "masks") if apart else {}
    paired = {header.path: masks.get(_key(header.path, root / "images")) for header in headers} if apart else {}
    return Listing(list(_items(headers, paired, options)), apart and not options.transferal, left_out)


def _header(path: Path, place: str) -> tuple[Header | None, str]:
    """What names and orders a file; or None and why it is left out."""
    pydicom = library("pydicom", "DICOM")
    with anonymous(place, "DICOM"):
        head = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=f"{HEAD} {SCANNER}".split())
        if not head.get("Rows"):
            return None, "without pixels"
        if head.get("BurnedInAnnotation", "NO") == "YES":
            return None, "whose pixels hold burned-in text, by their own header"
        scanner = " ".join(str(head.get(tag) or "") for tag in SCANNER.split()).strip() or None
        key = str(head.get("PatientID") or "") or f"study {head.get('StudyInstanceUID')}"
        order = (int(head.get("InstanceNumber") or 0), str(head.get("SOPInstanceUID")))
        series, count = str(head.get("SeriesInstanceUID")), int(head.get("NumberOfFrames") or 1)
        return Header(path, place, key, series, order, count, scanner), ""


def _items(headers: list[Header], masks: dict[Path, Path | None], options: Options) -> Iterator[Item]:
    patients = numbered((header.key for header in headers), options.seed)
    counts: Counter[int] = Counter()
    for header in sorted(headers, key=lambda header: (patients[header.key], header.series, header.order)):
        patient = patients[header.key]
        counts[patient] += 1
        name = f"patient_{patient:04d}_{counts[patient]:04d}"
        yield Item(name, header.place, partial(_read, header, name, patient, masks.get(header.path), options))


def _read(header: Header, name: str, patient: int, mask: Path | None, options: Options) -> Iterator[Picture]:
    marked = _marked(mask, header) if mask and not options.transferal else None
    pictures = grays(header.path, header.place, options.window)
    for number in range(header.frames):
        with anonymous(header.place, "DICOM"):
            gray = next(pictures)
        own = f"{name}_f{number + 1:04d}" if header.frames > 1 else name
        yield Picture(
            own, own, gray, _one(marked, number) if marked else None, f"patient {patient}", scanner=header.scanner
        )


def _one(masks: list[Gray], number: int) -> MaskReader:
    def read(shape: Shape) -> Gray:
        return masks[number]

    return read


def _marked(path: Path, header: Header) -> list[Gray]:
    """A mask for each frame."""
    with anonymous(f"the mask of {header.place}", "mask"):
        try:
            masks = [read_mask(path)] if path.suffix.lower() in SUFFIXES else list(_foreground(path, header.place))
        except DataError:  # its words would name the file
            raise ValueError from None
    if len(masks) != header.frames:
        raise DataError(f"{header.place} has {header.frames} frames, its mask {len(masks)}; export one for each")
    return masks


def _foreground(path: Path, place: str) -> Iterator[Gray]:
    """Whatever isn't 0 is marked."""
    for values in frames(path, place):
        yield (255 * (values > 0)).astype("uint8")


def _masks(folder: Path) -> dict[str, Path]:
    return {_key(path, folder): path for path in all_files(folder)}


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _is_dicom(path: Path, place: str) -> bool:
    """The four letters behind the preamble."""
    with anonymous(place, "a file"), path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


KIND = Kind(
    "dicom",
    "DICOM files of your own",
    "DICOM files (with a preamble), in any folders",
    fits,
    find,
    "your own",
    "your own",
    grouped_by="patient",
    remark="names or numbers that are burned into the pixels are not removed unless the header says that there are some "
    "(the file is left out then): look at the pictures before they leave the site",
)
