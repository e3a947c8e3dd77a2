"""Folders of pictures, with or without masks, become a PictureSet."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nakt_fed.data.groups import groups_of
from nakt_fed.data.listing import labels, list_pictures, list_transferal, masks_of, stem_of
from nakt_fed.data.pictures import Gray, read_gray, read_mask, resize_image, resize_mask
from nakt_fed.errors import DataError

__all__ = [
    "PictureSet",
    "list_pictures",
    "list_transferal",
    "load_annotated",
    "load_classes",
    "load_pictures",
    "read_pictures",
]


@dataclass(frozen=True, eq=False)
class PictureSet:
    """Pictures that are worked on together.

    ids: N names "<label>/<stem>".
    images: (N, H, W) uint8, gray; numpy or zarr.
    masks: (N, H, W) uint8, 0 or 255, or (N, C, H, W) with a plane per class; numpy, zarr or None.
    known: (N, C) bool, which planes are to be learned from; None: all.
    groups: N names of what must not be torn apart by a split (patients); None: every picture stands for itself.
    """

    ids: list[str]
    images: Any
    masks: Any = None
    known: NDArray[np.bool_] | None = None
    groups: list[str] | None = None

    def __post_init__(self) -> None:
        assert len(self.ids) == self.images.shape[0]
        assert self.masks is None or (*self.masks.shape[:1], *self.masks.shape[-2:]) == self.images.shape
        assert self.known is None or self.known.shape == self.masks.shape[:2]
        assert self.groups is None or len(self.groups) == len(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, indices: Sequence[int]) -> "PictureSet":
        """The pictures at `indices`, in that order, in memory."""
        images, masks, known = (_take(stack, indices) for stack in (self.images, self.masks, self.known))
        groups = None if self.groups is None else [self.groups[i] for i in indices]
        return PictureSet([self.ids[i] for i in indices], images, masks, known, groups)


def read_pictures(paths: Iterable[Path], size: int) -> Iterator[Gray]:
    """(size, size) uint8 per file, one at a time: memory does not grow. Raises DataError as `read_gray`."""
    for path in paths:
        yield resize_image(read_gray(path), size)


def load_pictures(folders: Iterable[Path], size: int) -> PictureSet:
    """All pictures of the folders at `size`, without masks. Raises DataError as `list_pictures` and `read_gray`."""
    found = list_transferal(folders)
    images = np.empty((len(found), size, size), np.uint8)
    for row, image in enumerate(read_pictures((path for _, path in found), size)):
        images[row] = image
    return PictureSet([name for name, _ in found], images)


def load_annotated(images_dir: Path, masks_dir: Path, size: int) -> PictureSet:
    """All pictures of `images_dir` with their masks. The folders may be one and the same.

    The masks of `x.png` are called `x`, `x_mask`, `x_mask_1`, ..., with any extension; several are united. Where
    `nakt data import` made the folder and knows the patients, they are the pictures' `groups`.

    Raises:
        DataError: as `list_pictures`, `read_gray` and `read_mask`; or a picture has no mask or one of another size.
    """
    pictures = list_pictures(images_dir)
    masks = masks_of(pictures, masks_dir)
    images = np.empty((len(pictures), size, size), np.uint8)
    truth = np.empty_like(images)
    for row, path in enumerate(pictures):
        gray = read_gray(path)
        images[row] = resize_image(gray, size)
        truth[row] = resize_mask(united_mask(masks[path], path, gray.shape), size)
    [label] = labels([images_dir])
    ids = [f"{label}/{stem_of(path)}" for path in pictures]
    return PictureSet(ids, images, truth, groups=groups_of(pictures, ids))


def load_classes(images_dir: Path, masks: Path | Mapping[str, Path], size: int) -> PictureSet:
    """As `load_annotated`; of several classes, each with its own folder of masks, the masks are (N, C, H, W), C by name."""
    if not isinstance(masks, Mapping):
        return load_annotated(images_dir, masks, size)
    parts = [load_annotated(images_dir, masks[name], size) for name in sorted(masks)]
    if len(parts) == 1:
        return parts[0]
    masks_of_classes = np.stack([part.masks for part in parts], axis=1)
    return PictureSet(parts[0].ids, parts[0].images, masks_of_classes, groups=parts[0].groups)


def united_mask(masks: list[Path], picture: Path, shape: tuple[int, ...]) -> Gray:
    """Union of a picture's masks, (h, w) uint8 0 or 255. Raises DataError where one has another shape than the picture."""
    union = np.zeros(shape, np.uint8)
    for path in masks:
        mask = read_mask(path)
        if mask.shape != shape:
            raise DataError(
                f"mask {path} has {mask.shape[1]}×{mask.shape[0]} pixels, "
                f"but its picture {picture} has {shape[1]}×{shape[0]}; export the mask at the picture's size"
            )
        np.maximum(union, mask, out=union)
    return union


def _take(array: Any, indices: Sequence[int]) -> Any:
    if array is None:
        return None
    rows = np.asarray(indices, dtype=np.int64)
    return array[rows] if isinstance(array, np.ndarray) else array.oindex[rows]
