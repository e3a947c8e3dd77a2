"""How well a checkpoint does on a folder of annotated pictures."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nakt_fed.data.folders import load_annotated
from nakt_fed.metrics import dice, iou
from nakt_fed.parts.load import load_predictor
from nakt_fed.predict import soft_masks
from nakt_fed.recipe import NetworkSpec


def evaluate_folder(
    checkpoint: Path | str,
    images: Path | str,
    masks: Path | str,
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
