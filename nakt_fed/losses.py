"""Dice + binary cross entropy with the same weight (paper, A.3, equations 1 and 2), on soft targets, from logits."""

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1.0
"""The small number of equation 1, in numerator and denominator: an empty mask answered empty has loss 0."""


def dice_loss(logits: Tensor, target: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Equation 1 per image and class, then the mean. logits, target: (B, C, H, W), target in 0..1 and possibly soft."""
    probability = torch.sigmoid(logits)
    overlap = (probability * target).sum(dim=(2, 3))
    total = probability.sum(dim=(2, 3)) + target.sum(dim=(2, 3))
    return (1 - (2 * overlap + epsilon) / (total + epsilon)).mean()


def dice_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Equation 1 plus equation 2, a scalar. Computed in float32 also under mixed precision."""
    logits, target = logits.float(), target.float()
    return dice_loss(logits, target) + F.binary_cross_entropy_with_logits(logits, target)
