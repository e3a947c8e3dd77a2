"""Equations 1 and 2 of the paper (A.3) in float64, pixel by pixel, from probabilities."""

import math

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]


def plain_dice(logits: Real, target: Real, epsilon: float, minimum: bool = False) -> float:
    """Equation 1 of every image and class of (B, C, H, W), then the mean."""
    losses = []
    for image, wanted in zip(logits.reshape(-1, *logits.shape[2:]), target.reshape(-1, *target.shape[2:]), strict=True):
        p, y = [_sigmoid(z) for z in image.ravel().tolist()], wanted.ravel().tolist()
        both = math.fsum(min(a, b) if minimum else a * b for a, b in zip(p, y, strict=True))
        losses.append(1 - (2 * both + epsilon) / (math.fsum(p) + math.fsum(y) + epsilon))
    return math.fsum(losses) / len(losses)


def plain_cross_entropy(logits: Real, target: Real) -> float:
    """Equation 2, the mean over all pixels."""
    pairs = zip(logits.ravel().tolist(), target.ravel().tolist(), strict=True)
    losses = [-y * math.log(_sigmoid(z)) - (1 - y) * math.log(_sigmoid(-z)) for z, y in pairs]
    return math.fsum(losses) / len(losses)


def _sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))
