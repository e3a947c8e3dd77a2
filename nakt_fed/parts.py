"""The parts on their own, for a notebook or the CLI: train a network, predict a folder, evaluate a checkpoint."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from nakt_fed.checkpoint import load_checkpoint, save_checkpoint
from nakt_fed.data.folders import load_annotated
from nakt_fed.data.listing import list_pictures
from nakt_fed.data.pictures import read_gray, resize_image
from nakt_fed.data.split import split
from nakt_fed.errors import DataError
from nakt_fed.metrics import dice, iou
from nakt_fed.predict import BATCH, soft_masks
from nakt_fed.seeds import draw
from nakt_fed.study import NetworkSpec, Recipe
from nakt_fed.teacher import fresh_network
from nakt_fed.train import EpochLog, fit

CONTOUR = (255, 196, 0)


def train_network(
    images: Path,
    masks: Path,
    out: Path,
    network: NetworkSpec,
    recipe: Recipe,
    *,
    image_size: int = 384,
    seed: int = 0,
    on_epoch: Callable[[EpochLog], None] | None = None,
) -> list[EpochLog]:
    """Train on a folder of annotated pictures; leaves teacher.safetensors, teacher.json and history.csv in `out`.

    Called again after a kill it goes on with the next epoch. Raises DataError, StudyError, RunError.
    """
    pictures = load_annotated(images, masks, image_size)
    rest, held_out = split(pictures.ids, recipe.validation, draw(seed, "validation"))
    out.mkdir(parents=True, exist_ok=True)
    model = fresh_network(network, seed)
    history = fit(
        model, pictures.subset(rest), recipe, folder=out, seed=seed, validation=pictures.subset(held_out), on_epoch=on_epoch
    )
    save_checkpoint(out / "teacher.safetensors", model.cpu(), network, n_images=len(rest), image_size=image_size, epochs=len(history))
    return history


def load_predictor(checkpoint: Path) -> tuple[nn.Module, int]:
    """The network and the square size that it was trained at. Raises CheckpointError."""
    model, info = load_checkpoint(checkpoint)
    return model, int(info["provenance"].get("image_size", 384))


def predict_folder(checkpoint: Path, folder: Path, out: Path, *, style: str = "mask") -> list[Path]:
    """Write one PNG per picture at the picture's own size. `style`: mask (0 or 255), soft (probability × 255) or overlay.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        DataError: a picture cannot be read, or `out` is the folder of the pictures.
    """
    if out.resolve() == folder.resolve():
        raise DataError(f"{out} holds the pictures themselves; give another folder for the masks")
    model, size = load_predictor(checkpoint)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for path, gray, soft in _predictions(model, size, list_pictures(folder)):
        target = out / f"{path.stem}.png"
        Image.fromarray(_draw(gray, soft, style)).save(target)
        written.append(target)
    return written


def _predictions(model: nn.Module, size: int, paths: list[Path]) -> Iterator[tuple[Path, NDArray[np.uint8], NDArray[np.uint8]]]:
    """(file, picture (h, w), soft mask (h, w)) in batches."""
    for start in range(0, len(paths), BATCH):
        part = paths[start : start + BATCH]
        grays = [read_gray(path) for path in part]
        masks = soft_masks(model, np.stack([resize_image(gray, size) for gray in grays]))
        for path, gray, mask in zip(part, grays, masks, strict=True):
            height, width = gray.shape
            yield path, gray, np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.BILINEAR))


def _draw(gray: NDArray[np.uint8], soft: NDArray[np.uint8], style: str) -> NDArray[np.uint8]:
    if style == "soft":
        return soft
    mask = soft > 127
    if style == "mask":
        return np.where(mask, np.uint8(255), np.uint8(0))
    inside = mask.copy()
    for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
        inside &= np.roll(mask, shift, axis)
    picture = np.stack([gray] * 3, axis=-1)
    picture[mask & ~inside] = CONTOUR
    return picture


def evaluate_folder(checkpoint: Path, images: Path, masks: Path, *, distances: bool = True) -> dict[str, NDArray[np.float64]]:
    """Dice, IoU and, in pixels at the network's size, HD95 and ASSD per picture, with threshold 0.5.

    Returns arrays (N,) by measure, and the pictures' ids under "id" as strings. Empty masks: see `metrics` and `distances`.
    """
    model, size = load_predictor(checkpoint)
    pictures = load_annotated(images, masks, size)
    prediction, truth = soft_masks(model, pictures.images) > 127, np.asarray(pictures.masks) > 127
    table = {"id": np.array(pictures.ids), "dice": dice(prediction, truth), "iou": iou(prediction, truth)}
    if distances:
        from nakt_fed.distances import assd, hd95  # MONAI takes seconds to import

        table |= {"hd95": hd95(prediction, truth), "assd": assd(prediction, truth)}
    return table
