"""Write a checkpoint's answers to a folder of pictures as PNG files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion
from torch import nn

from nakt_fed.data.listing import list_pictures, stem_of
from nakt_fed.data.pictures import Gray, read_gray, resize_image
from nakt_fed.errors import DataError
from nakt_fed.parts.load import load_predictor
from nakt_fed.predict import BATCH, soft_masks
from nakt_fed.recipe import NetworkSpec

Style = Literal["mask", "soft", "overlay"]

CONTOUR = (255, 196, 0)
CONTOUR_SHARE = 1 / 150
"""Width of the contour as a share of the picture's shorter side."""


def predict_folder(
    checkpoint: Path | str,
    folder: Path | str,
    out: Path | str,
    *,
    style: Style = "mask",
    network: NetworkSpec | None = None,
    label: str = "",
    overwrite: bool = False,
    on_picture: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write one PNG per picture, of the picture's own name and size.

    Args:
        style: mask (0 or 255), soft (probability × 255), or overlay (the picture in gray with the mask's contour).
        network, label: see `load_predictor`.
        overwrite: replace files that are there already.
        on_picture: called after every picture with how many are done and how many there are.

    Returns:
        The files, in the order of the pictures' names.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        DataError: a picture cannot be read, `out` is the folder of the pictures, or a file is there already.
    """
    folder, out = Path(folder), Path(out)
    if out.resolve() == folder.resolve():
        raise DataError(f"{out} holds the pictures themselves; give another folder for the masks")
    pictures = list_pictures(folder)
    targets = [out / f"{stem_of(path)}.png" for path in pictures]
    taken = [path for path in targets if path.exists()]
    if taken and not overwrite:
        raise DataError(f"{taken[0]} is there already; give another folder, or --overwrite (overwrite=True)")
    model, size = load_predictor(checkpoint, network, label)
    out.mkdir(parents=True, exist_ok=True)
    for done, (target, (gray, soft)) in enumerate(zip(targets, _answers(model, size, pictures), strict=True), 1):
        Image.fromarray(_drawn(gray, soft, style)).save(target)
        if on_picture:
            on_picture(done, len(pictures))
    return targets


def _answers(model: nn.Module, size: int, paths: list[Path]) -> Iterator[tuple[Gray, Gray]]:
    """(picture, soft mask), both (h, w) uint8, in batches."""
    for start in range(0, len(paths), BATCH):
        grays = [read_gray(path) for path in paths[start : start + BATCH]]
        masks = soft_masks(model, np.stack([resize_image(gray, size) for gray in grays]))
        for gray, mask in zip(grays, masks, strict=True):
            height, width = gray.shape
            yield gray, np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.BILINEAR))


def _drawn(gray: Gray, soft: Gray, style: Style) -> Gray:
    """(h, w), or (h, w, 3) for an overlay."""
    if style == "soft":
        return soft
    mask = soft > 127
    if style == "mask":
        return np.where(mask, np.uint8(255), np.uint8(0))
    inside = binary_erosion(mask, iterations=max(1, round(min(gray.shape) * CONTOUR_SHARE)))
    picture = np.stack([gray] * 3, axis=-1)
    picture[mask & ~inside] = CONTOUR
    return picture
