"""Dice + binary cross entropy with the same weight (paper, A.3, equations 1 and 2), on soft targets, from logits."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1.0
"""The small number of equation 1, in numerator and denominator: an empty mask answered empty has loss 0."""

UNKNOWN = -1.0
"""In a target of several classes: a plane with a negative value says nothing about its class, and the loss leaves it out."""

Overlap = Literal["product", "minimum"]


def dice_loss(logits: Tensor, target: Tensor, epsilon: float = EPSILON, overlap: Overlap = "product") -> Tensor:
    """Equation 1 per image and class, then the mean over the images and over the classes.

    logits, target: (B, C, H, W), target in 0..1 and possibly soft; with C > 1 planes of it may be `UNKNOWN`.

    The overlap of answer p and target y in a pixel is p·y in equation 1. On a soft target that is least not at p = y but at a
    p of 0 or 1. min(p, y) is the same on masks of 0 and 1 and least at p = y (Wang et al., "Dice Semimetric Losses", MICCAI 2023).
    """
    losses = _dice_losses(logits, target if target.shape[1] == 1 else target.clamp(min=0), epsilon, overlap)
    return losses.mean() if target.shape[1] == 1 else _over_known(losses, target)


def _dice_losses(logits: Tensor, target: Tensor, epsilon: float, overlap: Overlap) -> Tensor:
    """(B, C)"""
    probability = torch.sigmoid(logits)
    common = probability * target if overlap == "product" else torch.minimum(probability, target)
    total = probability.sum(dim=(2, 3)) + target.sum(dim=(2, 3))
    return 1 - (2 * common.sum(dim=(2, 3)) + epsilon) / (total + epsilon)


def _over_known(losses: Tensor, target: Tensor) -> Tensor:
    """The mean over the images of which a class is known, then over the classes of which any is. losses: (B, C)."""
    known = (target.amin(dim=(2, 3)) >= 0).to(losses)
    images = known.sum(dim=0)
    each = (losses * known).sum(dim=0) / images.clamp(min=1)
    return each.sum() / (images > 0).sum().clamp(min=1)


def dice_bce(logits: Tensor, target: Tensor, overlap: Overlap = "product") -> Tensor:
    """Equation 1 plus equation 2, a scalar. Computed in float32 also under mixed precision."""
    logits, target = logits.float(), target.float()
    dice = dice_loss(logits, target, overlap=overlap)
    if target.shape[1] == 1:
        return dice + F.binary_cross_entropy_with_logits(logits, target)
    entropy = F.binary_cross_entropy_with_logits(logits, target.clamp(min=0), reduction="none").mean(dim=(2, 3))
    return dice + _over_known(entropy, target)
