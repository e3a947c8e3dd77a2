"""The parts on their own, for a notebook or the CLI: train a network, predict a folder, evaluate a checkpoint."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion
from torch import Tensor, nn

from nakt_fed.checkpoint import load_checkpoint, save_checkpoint
from nakt_fed.data.folders import load_annotated
from nakt_fed.data.listing import list_pictures, stem_of
from nakt_fed.data.pictures import Gray, read_gray, resize_image
from nakt_fed.data.split import split
from nakt_fed.errors import CheckpointError, DataError, StudyError
from nakt_fed.inspect_study import refuse_useless, try_network
from nakt_fed.metrics import dice, iou
from nakt_fed.predict import BATCH, soft_masks
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.seeds import draw
from nakt_fed.teacher import fresh_network
from nakt_fed.train import fit
from nakt_fed.training_state import EpochLog

Style = Literal["mask", "soft", "overlay"]
Where = Path | str

CONTOUR = (255, 196, 0)
CONTOUR_SHARE = 1 / 150
"""Width of the contour as a share of the picture's shorter side."""


def train_network(
    images: Where,
    masks: Where,
    out: Where,
    network: NetworkSpec,
    recipe: Recipe,
    *,
    image_size: int = 384,
    seed: int = 0,
    on_epoch: Callable[[EpochLog], None] | None = None,
) -> list[EpochLog]:
    """Train on a folder of annotated pictures; leaves teacher.safetensors, teacher.json and history.csv in `out`.

    Called again after a kill it goes on with the next epoch.

    Args:
        images: the pictures; `masks` holds a mask for each (see docs/data.md for their names).
        image_size: side in pixels of the square that pictures are resized to, a multiple of 32.
        seed: of the weights, the order, the augmentation and the choice of the validation pictures.
        on_epoch: called after every epoch.

    Returns:
        One row per epoch.

    Raises:
        DataError: a picture or mask cannot be used, or nothing can be learned from them.
        StudyError: there is no such network, or it cannot work at this size.
        RunError: the loss is not finite, or `out` holds another training.
    """
    out = Path(out)
    if network.classes != 1:
        raise StudyError(
            f"network.classes is {network.classes}; a training on one folder of masks has 1 class, leave it out"
        )
    pictures = load_annotated(Path(images), Path(masks), image_size)
    rest, held_out = split(pictures.ids, recipe.validation, draw(seed, "validation"))
    train, validation = pictures.subset(rest), pictures.subset(held_out)
    refuse_useless(train)
    try_network(fresh_network(network, seed), network, image_size, recipe)
    out.mkdir(parents=True, exist_ok=True)
    model = fresh_network(network, seed)
    history = fit(model, train, recipe, folder=out, seed=seed, validation=validation, on_epoch=on_epoch)
    facts = {"n_images": len(train), "image_size": image_size, "epochs": len(history), "seed": seed}
    save_checkpoint(out / "teacher.safetensors", model.cpu(), network, **facts)
    return history


class _Output(nn.Module):
    """One class of a network that knows several: (B, C, H, W) logits -> (B, 1, H, W)."""

    def __init__(self, model: nn.Module, number: int) -> None:
        super().__init__()
        self.model, self.number = model, number

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits[:, self.number : self.number + 1]


def load_predictor(checkpoint: Where, network: NetworkSpec | None = None, label: str = "") -> tuple[nn.Module, int]:
    """The network, and the side in pixels of the square pictures that it was trained on.

    Args:
        network: needed for a network of the user's own (`module:factory`): its code is run only when it is named here.
        label: of a network that knows several classes, the one that is wanted.

    Raises:
        CheckpointError: the checkpoint cannot be used, does not say its image_size, or does not know the class.
    """
    model, info = load_checkpoint(Path(checkpoint), expect=network)
    known = info["provenance"].get("classes", [""])
    if label not in known:
        told = f"knows {', '.join(known)}: name one of them" if known != [""] else "knows one class: leave the name out"
        raise CheckpointError(f"checkpoint {checkpoint} {told} (--class; in Python label=...)")
    if label:
        model = _Output(model, known.index(label))
    size = info["provenance"].get("image_size")
    if not isinstance(size, int):
        raise CheckpointError(
            f"checkpoint {checkpoint} does not say at which image_size it was trained; "
            "save it again with save_checkpoint(..., image_size=...)"
        )
    return model, size


def predict_folder(
    checkpoint: Where,
    folder: Where,
    out: Where,
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


def evaluate_folder(
    checkpoint: Where,
    images: Where,
    masks: Where,
    *,
    network: NetworkSpec | None = None,
    label: str = "",
    distances: bool = True,
) -> dict[str, NDArray[np.generic]]:
    """Dice, IoU and, in pixels at the network's size, HD95 and ASSD per picture, with threshold 0.5.

    Args:
        network, label: see `load_predictor`.
        distances: HD95 and ASSD too; their library takes seconds to import.

    Returns:
        Arrays (N,) under "id" (text), "dice", "iou", "hd95" and "assd" (float64). For empty masks see `metrics` and
        `distances`.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        DataError: a picture or mask cannot be used.
    """
    model, size = load_predictor(checkpoint, network, label)
    pictures = load_annotated(Path(images), Path(masks), size)
    prediction, truth = soft_masks(model, pictures.images) > 127, np.asarray(pictures.masks) > 127
    table = {"id": np.array(pictures.ids), "dice": dice(prediction, truth), "iou": iou(prediction, truth)}
    if distances:
        from nakt_fed.distances import assd, hd95  # MONAI takes seconds to import

        table |= {"hd95": hd95(prediction, truth), "assd": assd(prediction, truth)}
    return table
