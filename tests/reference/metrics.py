"""Overlap and surface distances per picture, with sets of pixels and SciPy's distance transform."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

Mask = NDArray[np.bool_]


def pixels(mask: Mask) -> set[tuple[int, int]]:
    return {(y, x) for y, row in enumerate(mask.tolist()) for x, inside in enumerate(row) if inside}


def set_dice(prediction: Mask, truth: Mask) -> float:
    p, t = pixels(prediction), pixels(truth)
    return 2 * len(p & t) / (len(p) + len(t)) if p or t else 1.0


def set_iou(prediction: Mask, truth: Mask) -> float:
    p, t = pixels(prediction), pixels(truth)
    return len(p & t) / len(p | t) if p or t else 1.0


def surface(mask: Mask) -> Mask:
    """Pixels of the mask with a 4-neighbour outside it; beyond the picture is outside."""
    return mask & ~binary_erosion(mask)


def directed(prediction: Mask, truth: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For every surface pixel of one mask the distance to the other's surface, both ways, in pixels."""
    p, t = surface(prediction), surface(truth)
    return distance_transform_edt(~t)[p], distance_transform_edt(~p)[t]


def edt_hd95(prediction: Mask, truth: Mask) -> float:
    return max(float(np.percentile(distances, 95)) for distances in directed(prediction, truth))


def edt_assd(prediction: Mask, truth: Mask) -> float:
    return float(np.concatenate(directed(prediction, truth)).mean())
