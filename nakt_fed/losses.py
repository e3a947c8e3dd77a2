"""Dice + binary cross entropy with the same weight (paper, A.3, equations 1 and 2), on soft targets, from logits."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1.0
"""The small number of equation 1, in numerator and denominator: an empty mask answered empty has loss 0."""

Overlap = Literal["product", "minimum"]


def dice_loss(logits: Tensor, target: Tensor, epsilon: float = EPSILON, overlap: Overlap = "product") -> Tensor:
    """Equation 1 per image and class, then the mean. logits, target: (B, C, H, W), target in 0..1 and possibly soft.

    The overlap of answer p and target y in a pixel is p·y in equation 1. On a soft target that is least not at p = y but at a
    p of 0 or 1. min(p, y) is the same on masks of 0 and 1 and least at p = y (Wang et al., "Dice Semimetric Losses", MICCAI 2023).
    """
    probability = torch.sigmoid(logits)
    common = probability * target if overlap == "product" else torch.minimum(probability, target)
    total = probability.sum(dim=(2, 3)) + target.sum(dim=(2, 3))
    return (1 - (2 * common.sum(dim=(2, 3)) + epsilon) / (total + epsilon)).mean()


def dice_bce(logits: Tensor, target: Tensor, overlap: Overlap = "product") -> Tensor:
    """Equation 1 plus equation 2, a scalar. Computed in float32 also under mixed precision."""
    logits, target = logits.float(), target.float()
    return dice_loss(logits, target, overlap=overlap) + F.binary_cross_entropy_with_logits(logits, target)
