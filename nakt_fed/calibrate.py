"""Where a student cuts its soft masks: moved to one half, after a loss that has put it elsewhere."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nakt_fed.predict import BATCH, normalise, soft_masks, to_input

PICTURES = 512
"""As many pseudo-annotated pictures, spread evenly, say where the cut lies."""
FEWEST = 32
"""Fewer say too little, and the cut stays."""
CUTS = slice(25, 230)
"""Levels that are tried: a network that needs more than this has not learned, and a cut would not mend it."""
ONE_HALF = 127


def calibrate(model: nn.Module, images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> int:
    """Add one number to the logits, in the bias of the last layer, so that masks cut at one half agree best with `masks`.

    Trained by the Dice loss on soft masks, a network does not cut at one half: what is best cut at another level comes out
    too large or too small (Lipton, Elkan and Narayanaswamy, "Thresholding Classifiers to Maximize F1 Score", arXiv
    1402.1892; docs/results.md has it measured). Only pseudo masks are needed to see that.

    Args:
        images: (n, H, W) uint8, pictures of the pseudo-annotated set.
        masks: (n, H, W) uint8, their pseudo masks, probability × 255.

    Returns:
        The level, of 255, at which the masks were best cut before: `ONE_HALF` where nothing was changed, because there are fewer
        than `FEWEST` pictures, or because the network has no last bias that moves its logits.
    """
    [cut] = calibrate_classes(model, images, masks[:, None])
    return cut


def calibrate_classes(
    model: nn.Module, images: NDArray[np.uint8], masks: NDArray[np.uint8], known: NDArray[np.bool_] | None = None
) -> list[int]:
    """`calibrate` for each output of a network: a number and a level of its own.

    Args:
        masks: (n, C, H, W) uint8.
        known: (n, C) bool, which of the masks say something; None: all.
    """
    told = np.ones(masks.shape[:2], bool) if known is None else known
    enough = np.flatnonzero(told.sum(axis=0) >= FEWEST)
    cuts = [ONE_HALF] * masks.shape[1]
    if not len(enough):
        return cuts
    soft = soft_masks(model, images, classes=len(cuts)).reshape(masks.shape)
    bias = _last_bias(model, images[:1], len(cuts))
    for c in enough if bias is not None else ():
        cuts[c] = best_cut(soft[told[:, c], c], masks[told[:, c], c] > ONE_HALF)
        share = (cuts[c] + 0.5) / 255  # `soft > cut` after rounding
        with torch.no_grad():
            bias[c] -= math.log(share / (1 - share))  # type: ignore[index]
    return cuts


def best_cut(soft: NDArray[np.uint8], truth: NDArray[np.bool_]) -> int:
    """The level t in `CUTS` of the largest mean Dice of `soft > t` and `truth`, both (n, H, W); the nearest to one half of several."""
    mean = np.mean([_dice_of_cuts(mask, target) for mask, target in zip(soft, truth, strict=True)], axis=0)
    best = np.flatnonzero(mean[CUTS] >= mean[CUTS].max()) + CUTS.start
    return int(best[np.abs(best - ONE_HALF).argmin()])


def _dice_of_cuts(soft: NDArray[np.uint8], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(255,) Dice of a picture's mask cut at 0, 1, … 254."""
    inside, both = _above(soft.ravel()), _above(soft[truth])
    together = inside + np.count_nonzero(truth)
    return np.where(together, 2 * both / np.maximum(together, 1), 1.0)


def _above(levels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(255,) how many of the levels are above 0, 1, … 254."""
    counts: NDArray[np.int64] = np.bincount(levels, minlength=256)[:0:-1].cumsum()[::-1]
    return counts


def _last_bias(model: nn.Module, picture: NDArray[np.uint8], classes: int) -> torch.Tensor | None:
    """The bias (C,) that moves the logits by what is added to it, found by adding to it; None where there is none."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and layer.out_channels == classes]
    biases = [layer.bias for layer in layers if layer.bias is not None]
    if not biases:
        return None
    bias, pictures = biases[-1].data, np.repeat(picture, BATCH, axis=0)
    before, kept = _logits(model, pictures), bias.clone()
    bias += 1
    moved = _logits(model, pictures) - before
    bias.copy_(kept)
    return bias if torch.allclose(moved, torch.ones_like(moved), atol=1e-3) else None


def _logits(model: nn.Module, pictures: NDArray[np.uint8]) -> torch.Tensor:
    with torch.inference_mode():
        answer: torch.Tensor = model.eval()(normalise(to_input(pictures).to(next(model.parameters()).device)))
    return answer.float()
