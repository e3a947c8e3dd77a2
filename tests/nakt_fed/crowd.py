"""Made-up sites that see ellipses, each a little differently: honest answers to plant attacks among. No test."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from nakt_fed.attacks import attacked
from nakt_fed.metrics import dice

Gray = NDArray[np.uint8]


def lesions(pictures: int, size: int = 48, seed: int = 0) -> Gray:
    """Ground truth (n, H, W), 0 or 255: an ellipse in each picture."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[:size, :size]
    masks = np.zeros((pictures, size, size), np.uint8)
    for mask in masks:
        (top, left), (tall, wide) = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(0.1, 0.25, 2) * size
        mask[((y - top) / tall) ** 2 + ((x - left) / wide) ** 2 <= 1] = 255
    return masks


def honest(truth: Gray, seed: int) -> Gray:
    """What a fair teacher answers: moved a little, blurred, with spots of doubt; one lesion in ten is missed."""
    rng, masks = np.random.default_rng(seed + 1000), []
    for mask in truth:
        moved = np.roll(mask, tuple(rng.integers(-2, 3, 2)), (0, 1)).astype(float) * (rng.random() > 0.1)
        doubt = gaussian_filter(rng.standard_normal(mask.shape), 3) * 200
        masks.append(np.clip(gaussian_filter(moved, 1.5) + doubt, 0, 255))
    return np.rint(masks).astype(np.uint8)


def crowd(truth: Gray, sites: int, attack: str = "", bad: Collection[int] = ()) -> dict[str, Gray]:
    """{"s0": masks, …}; the sites in `bad` are under one attack, with one seed: those that collude answer alike."""
    ids = [f"p{i}" for i in range(len(truth))]
    answers = {f"s{k}": honest(truth, k) for k in range(sites)}
    return answers | {f"s{k}": attacked(attack, answers[f"s{k}"], ids, 5) for k in bad}


def points(pseudo: Gray, truth: Gray) -> float:
    """Mean Dice in %."""
    return 100 * float(dice(pseudo > 127, truth > 127).mean())
