"""A network's soft masks, always computed in batches of one fixed shape, so that an answer never depends on the chunking."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nakt_fed.errors import AnswerError

BATCH = 8
"""A float sum depends on the shape that a kernel sees; the last batch is filled up with blanks."""

Teacher = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""T_k: pictures (n, H, W) uint8 -> probabilities (n, H, W) in 0..1; of several classes (n, C, H, W)."""


def to_input(pictures: NDArray[np.uint8] | Tensor) -> Tensor:
    """(n, H, W) uint8 -> (n, 1, H, W) float32 in 0..1."""
    return torch.as_tensor(pictures).unsqueeze(1).float() / 255


def normalise(images: Tensor) -> Tensor:
    """0..1 -> -1..1, what every network sees."""
    return images * 2 - 1


def probabilities(
    model: nn.Module, pictures: NDArray[np.uint8], device: torch.device | None = None, classes: int = 1
) -> NDArray[np.float32]:
    """sigmoid of the network's logits. pictures: (n, H, W) uint8 -> (n, H, W) float32; of several classes (n, C, H, W).

    Raises:
        AnswerError: the network has another number of outputs, or answers at another size.
    """
    device = device or next(model.parameters()).device
    out = np.empty((len(pictures), classes, *pictures.shape[1:]), dtype=np.float32)
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(pictures), BATCH):
            part = pictures[start : start + BATCH]
            filled = np.zeros((BATCH, *pictures.shape[1:]), dtype=np.uint8)
            filled[: len(part)] = part
            logits = model(normalise(to_input(filled).to(device)))
            if logits.shape != (BATCH, classes, *pictures.shape[1:]):
                raise AnswerError(
                    f"the network answers {tuple(logits.shape[1:])} for a picture of {pictures.shape[1:]}; "
                    f"expected logits ({classes}, H, W) of the picture's size"
                )
            out[start : start + len(part)] = torch.sigmoid(logits[: len(part)].float()).cpu().numpy()
    return out[:, 0] if classes == 1 else out


def quantise(soft: NDArray[np.floating], binary: bool = False) -> NDArray[np.uint8]:
    """q = round(255 p), or 0 / 255 for a binary teacher (DESIGN §3).

    Raises:
        AnswerError: a value is not finite, or outside 0..1 (logits instead of probabilities).
    """
    low, high = (float(soft.min()), float(soft.max())) if soft.size else (0.0, 0.0)  # NaN where any value is NaN
    if not np.isfinite([low, high]).all():
        raise AnswerError("the teacher's answer holds NaN or infinity; check its weights and normalisation")
    if low < 0 or high > 1:
        raise AnswerError(
            f"the teacher's answer lies in {low:.3g}..{high:.3g}, probabilities in 0..1 are expected; "
            "does it return logits without sigmoid?"
        )
    if binary:
        return np.where(soft > 0.5, np.uint8(255), np.uint8(0))
    scaled = soft * 255
    return np.rint(scaled, out=scaled).astype(np.uint8)


def soft_masks(
    model: nn.Module, pictures: NDArray[np.uint8], device: torch.device | None = None, classes: int = 1
) -> NDArray[np.uint8]:
    """The network's soft masks as they cross the wire, probability × 255 as uint8; shapes and errors as `probabilities`."""
    return quantise(probabilities(model, pictures, device, classes))
