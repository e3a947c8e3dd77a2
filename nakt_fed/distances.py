"""Surface distances between masks in pixels, from MONAI, which is loaded when first asked for: it takes seconds."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nakt_fed.metrics import Masks, check_masks

Distances = NDArray[np.float64]


def hd95(prediction: Masks, truth: Masks) -> Distances:
    """Hausdorff distance at the 95th percentile per picture: the larger of the two directed percentiles.

    Both masks empty: 0. One empty: NaN, for there is no distance to nothing; `metrics.summary` leaves such pictures out
    and its `n` tells how many counted.

    Args:
        prediction: (N, H, W) bool.
        truth: (N, H, W) bool.

    Returns:
        (N,) float64, pixels.

    Raises:
        DataError: the arrays are not bool or differ in shape.
    """
    from monai.metrics import compute_hausdorff_distance

    return _per_picture(prediction, truth, partial(compute_hausdorff_distance, percentile=95, include_background=True))


def assd(prediction: Masks, truth: Masks) -> Distances:
    """Average symmetric surface distance per picture: mean over the pixels of both surfaces. Otherwise as `hd95`."""
    from monai.metrics import compute_average_surface_distance

    symmetric = partial(compute_average_surface_distance, symmetric=True, include_background=True)
    return _per_picture(prediction, truth, symmetric)


def _per_picture(prediction: Masks, truth: Masks, distance: Callable[..., Any]) -> Distances:
    """Only pairs with two surfaces go to MONAI, which warns about the others; one by one, as it does itself."""
    check_masks(prediction, truth)
    values = np.full(len(prediction), np.nan)
    with warnings.catch_warnings():
        # MONAI 1.5 and 1.6 pass an argument to themselves that they have deprecated.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        for i, (p, t) in enumerate(zip(prediction, truth, strict=True)):
            if p.any() and t.any():
                values[i] = distance(p[None, None], t[None, None]).item()
            elif not p.any() and not t.any():
                values[i] = 0.0
    return values
