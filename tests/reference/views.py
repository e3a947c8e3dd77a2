"""A view in floating point with SciPy, written from docs/views.md rather than from the integer code."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from nakt_fed.views import Change, Recipe

Real = NDArray[np.float64]


def float_view(recipe: Recipe, image: NDArray[np.uint8], partner: NDArray[np.uint8] | None) -> Real:
    """(H, W) float gray levels 0..255."""
    view = float_change(recipe.change, image)
    if partner is None:
        return view
    other = float_change(recipe.partner_change, partner)
    if recipe.box is None:
        share = recipe.weight / 256
        return share * view + (1 - share) * other
    height, width = (
        max(1, int(side / 256 * size))
        for side, size in zip((recipe.box.height, recipe.box.width), image.shape, strict=True)
    )
    top = int((image.shape[0] - height + 1) * recipe.box.top / 65536)
    left = int((image.shape[1] - width + 1) * recipe.box.left / 65536)
    view[top : top + height, left : left + width] = other[top : top + height, left : left + width]
    return view


def float_change(change: Change, image: NDArray[np.uint8]) -> Real:
    gray = 255 * (image / 255) ** (change.gamma / 256)
    gray = np.clip(gray.mean() + change.contrast / 256 * (gray - gray.mean()), 0, 255)
    return float_geometry(change, gray)


def float_geometry(change: Change, gray: Real) -> Real:
    """Pixel centres lie at whole numbers plus a half; black outside."""
    height, width = gray.shape
    y, x = np.mgrid[:height, :width] + 0.5
    # With y downwards, turning the picture counter-clockwise means reading it at points turned clockwise.
    turned = ((x - width / 2) + 1j * (y - height / 2)) * np.exp(1j * np.radians(change.angle / 16))
    x, y = turned.real + width / 2, turned.imag + height / 2
    if change.flip:
        x = width - x
    kept_rows, kept_columns = change.kept_rows / 65536, change.kept_columns / 65536
    y = (1 - kept_rows) * height * change.row_position / 65536 + kept_rows * y
    x = (1 - kept_columns) * width * change.column_position / 65536 + kept_columns * x
    return map_coordinates(gray, [y - 0.5, x - 0.5], order=1, mode="grid-constant", cval=0)
