"""NIfTI volumes, slice by slice: imagesTr/ with labelsTr/, images/ with masks/, or `x_seg.nii.gz` beside `x.nii.gz`."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nakt_fed.data.imports.private import all_files, anonymous, library, numbered, to_gray
from nakt_fed.data.imports.source import Item, Kind, Listing, MaskReader, Options, Picture, Shape
from nakt_fed.data.pictures import Gray
from nakt_fed.errors import DataError

FILE = re.compile(r"(?P<stem>.+)\.nii(\.gz)?", re.IGNORECASE)
MASK_FOLDER = re.compile(r"(labels?|masks?)(Tr|Ts)?", re.IGNORECASE)
IMAGE_FOLDER = re.compile(r"(images?)(Tr|Ts)?", re.IGNORECASE)
BESIDE = re.compile(r"(?P<stem>.+?)[_-](seg|segmentation|mask|label|gt)", re.IGNORECASE)
CHANNEL = re.compile(r"(?P<stem>.+)_(?P<number>\d{4})")
SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
PERCENTILES = (0.5, 99.5)

Place = tuple[tuple[str, ...], str]


def fits(folder: Path) -> bool:
    """Whether there is a NIfTI file below."""
    return any(FILE.fullmatch(path.name) for path in all_files(folder))


def find(root: Path, options: Options) -> Listing:
    """Every volume. A file of nnU-Net's `x_0000`, `x_0001`, ...: its first channel."""
    library("nibabel", "NIfTI")
    files = [(f"file {number}", path) for number, path in enumerate(all_files(root), 1) if FILE.fullmatch(path.name)]
    masks = {_place(path, root): path for _, path in files if _is_mask(path, root)}
    volumes, left_out = [], Counter[str]()
    for number, path in files:
        folders, stem = place = _place(path, root)
        channel = CHANNEL.fullmatch(stem) if place not in masks else None
        if channel and (folders, channel["stem"]) in masks:
            if int(channel["number"]):
                left_out["that are further channels of a volume"] += 1
                continue
            place = folders, channel["stem"]
        if not _is_mask(path, root):
            volumes.append((number, path, masks.get(place)))
    return Listing(list(_items(volumes, root, options)), bool(masks) and not options.transferal, left_out)


def _items(volumes: list[tuple[str, Path, Path | None]], root: Path, options: Options) -> Iterator[Item]:
    patients = numbered((_patient(path, root) for _, path, _ in volumes), options.seed)
    counts: Counter[int] = Counter()
    for place, path, mask in volumes:
        patient = patients[_patient(path, root)]
        counts[patient] += 1
        name = f"volume_{patient:04d}_{counts[patient]:02d}"
        yield Item(name, place, partial(_read, path, mask, name, place, patient, options))


def _read(path: Path, mask: Path | None, name: str, place: str, patient: int, options: Options) -> Iterator[Picture]:
    with anonymous(place, "NIfTI"):
        volume = _volume(path, place)
        marked = _marked(mask, place, volume.shape, options) if mask and not options.transferal else None
        low, high = _ends(volume, options)
    axis = AXES[options.plane]
    for index in range(volume.shape[axis]):
        own = f"{name}_{index + 1:04d}"
        truth = _truth(_slice(marked, axis, index)) if marked is not None else None
        yield Picture(own, own, to_gray(_slice(volume, axis, index), low, high), truth, f"patient {patient}")


def _volume(path: Path, place: str) -> npt.NDArray[Any]:
    """(right, anterior, superior) float32, in scanner units."""
    nibabel = library("nibabel", "NIfTI")
    image = nibabel.as_closest_canonical(nibabel.load(path))
    data = np.asanyarray(image.dataobj)
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim != 3 or data.dtype.kind not in "iuf":
        shape = "×".join(map(str, data.shape))
        raise DataError(f"{place} is {shape}, not one volume of numbers; split it into volumes (for example fslsplit)")
    return data.astype(np.float32)


def _marked(path: Path, place: str, shape: Shape, options: Options) -> npt.NDArray[np.bool_]:
    """Where the mask holds one of the labels that are foreground."""
    values = np.rint(_volume(path, f"the mask of {place}"))
    if values.shape != shape:
        raise DataError(f"{place} has {shape} voxels, its mask {values.shape}; export the mask on the volume's grid")
    labels = [int(value) for value in np.unique(values) if value]
    if len(labels) > 1 and not options.labels:
        raise DataError(
            f"the mask of {place} holds the labels {', '.join(map(str, labels))}; "
            "say which of them are meant with --label (labels=...), several times for several"
        )
    return np.isin(values, options.labels or labels)


def _ends(volume: npt.NDArray[Any], options: Options) -> tuple[float, float]:
    """The gray levels' ends: the window that was asked for, or percentiles of the whole volume."""
    if options.window:
        centre, width = options.window
        return centre - width / 2, centre + width / 2
    low, high = np.nanpercentile(volume, PERCENTILES)
    return float(low), float(high)


def _slice(volume: npt.NDArray[Any], axis: int, index: int) -> npt.NDArray[Any]:
    """Anterior (or superior) is up, and the patient's right on the left, as radiologists look at it."""
    return np.flip(volume.take(index, axis).T, axis=(0, 1))


def _truth(marked: npt.NDArray[np.bool_]) -> MaskReader:
    def read(shape: Shape) -> Gray:
        return np.where(marked, 255, 0).astype(np.uint8)

    return read


def _stem(path: Path) -> str:
    match = FILE.fullmatch(path.name)
    assert match
    return match["stem"]


def _is_mask(path: Path, root: Path) -> bool:
    folders = path.relative_to(root).parts[:-1]
    return any(MASK_FOLDER.fullmatch(part) for part in folders) or bool(BESIDE.fullmatch(_stem(path)))


def _place(path: Path, root: Path) -> Place:
    """The same for a volume and its mask: folders called images… and labels… are left out, and what names the mask."""
    folders = path.relative_to(root).parts[:-1]
    own = tuple(part for part in folders if not MASK_FOLDER.fullmatch(part) and not IMAGE_FOLDER.fullmatch(part))
    return own, (BESIDE.fullmatch(_stem(path)) or {"stem": _stem(path)})["stem"]


def _patient(path: Path, root: Path) -> str:
    """As far as file names tell: BIDS's subject, else the folder of one's own, else the file."""
    subject = SUBJECT.search(path.relative_to(root).as_posix())
    folders, stem = _place(path, root)
    return subject[0] if subject else "/".join(folders) or stem


KIND = Kind(
    "nifti",
    "NIfTI volumes of your own",
    "`x.nii` or `x.nii.gz`, in any folders",
    fits,
    find,
    "your own",
    "your own",
    grouped_by="patient",
    remark="file names stay behind: volumes in one folder of their own, or with one BIDS subject, count as one patient",
)
