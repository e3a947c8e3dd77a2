"""A view's pixels from its recipe, in integer arithmetic: bit for bit the same on every machine (docs/views.md)."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]

ONE = 1 << 16  # 1.0 in 16.16 fixed point
LEVEL = 1 << 8  # 1.0 for gamma, contrast, weight and box sides
PER_DEGREE = 16  # angles are whole sixteenths of a degree
FRACTION = 10  # bits of a bilinear weight: 255 · 2^20 fits int32


@dataclass(frozen=True)
class Change:
    """One augmentation in whole numbers, for pictures of any size. The geometry's order is crop, flip, rotation."""

    kept_rows: int = ONE  # /65536
    kept_columns: int = ONE  # /65536
    row_position: int = 0  # /65536 of what is cut away lies above
    column_position: int = 0  # /65536 of what is cut away lies to the left
    flip: bool = False
    angle: int = 0  # sixteenths of a degree, counter-clockwise
    gamma: int = LEVEL  # /256
    contrast: int = LEVEL  # /256


@dataclass(frozen=True)
class Box:
    """Where the partner is pasted: sides in 1/256 of the picture's, position in 1/65536 of the free room."""

    height: int
    width: int
    top: int
    left: int

    def slices(self, height: int, width: int) -> tuple[slice, slice]:
        """The box in pixels; never empty, never outside."""
        return _span(self.height, self.top, height), _span(self.width, self.left, width)


@dataclass(frozen=True)
class Recipe:
    """All that a view needs besides the pixels. `partner` is a position in the ids, None when the view isn't mixed."""

    change: Change = Change()
    partner: int | None = None
    partner_change: Change = Change()
    weight: int = LEVEL  # the picture's share in a blend, /256
    box: Box | None = None  # a box is pasted; without it, the two are blended


def render(recipe: Recipe, image: Gray, partner: Gray | None = None) -> Gray:
    """The view's pixels.

    Args:
        recipe: from `ViewScheme.recipe`.
        image: (H, W) uint8.
        partner: (H, W) uint8, the picture at `recipe.partner`; None for a view that isn't mixed.

    Returns:
        (H, W) uint8; what lies outside the picture is 0.
    """
    assert (partner is None) == (recipe.partner is None), "a mixed view needs its partner's pixels"
    view = _apply(recipe.change, image)
    if partner is None:
        return view
    other = _apply(recipe.partner_change, partner)
    if recipe.box is not None:
        place = recipe.box.slices(*view.shape)
        view[place] = other[place]
        return view
    blend = view * np.uint16(recipe.weight) + other * np.uint16(LEVEL - recipe.weight)  # at most 255 · 256
    return ((blend + np.uint16(LEVEL // 2)) >> np.uint16(8)).astype(np.uint8)


def _span(side: int, position: int, size: int) -> slice:
    pixels = max(1, size * side >> 8)
    start = (size - pixels + 1) * position >> 16
    return slice(start, start + pixels)


def _apply(change: Change, image: Gray) -> Gray:
    """Gray levels before geometry, so that what comes from outside the picture stays black."""
    return _geometry(change, _photometry(change, image))


def _photometry(change: Change, image: Gray) -> Gray:
    image = _gamma_table(change.gamma).take(image)
    mean = (int(image.sum(dtype=np.int64)) + image.size // 2) // image.size
    return _contrast_table(change.contrast, mean).take(image)


@lru_cache(maxsize=LEVEL)
def _gamma_table(gamma: int) -> Gray:
    """(256,) uint8. Machines differ in the last bit of `pow`; a test shows that no entry is near a rounding edge."""
    return np.array([round(255 * (level / 255) ** (gamma / LEVEL)) for level in range(256)], np.uint8)


def _contrast_table(contrast: int, mean: int) -> Gray:
    """(256,) uint8: mean + contrast · (level − mean), clipped."""
    levels = np.arange(256, dtype=np.int32)
    return np.clip(mean + (contrast * (levels - mean) + LEVEL // 2 >> 8), 0, 255).astype(np.uint8)


@lru_cache(maxsize=2048)
def _cosine_sine(angle: int) -> tuple[int, int]:
    """In 1/65536. As with `_gamma_table`, no angle of the grid comes near a rounding edge."""
    radians = math.radians(angle / PER_DEGREE)
    return round(ONE * math.cos(radians)), round(ONE * math.sin(radians))


def _geometry(change: Change, image: Gray) -> Gray:
    """Crop, flip and rotation as one inverse affine map, sampled bilinearly.

    u = 2x − (W−1) and v = 2y − (H−1) are twice the distance from the centre, so 1/65536 of them is 2^-17 pixel, and
    everything up to side 2048 fits int32. From output to source: undo the rotation, then the flip, then the crop.
    """
    if change == Change(gamma=change.gamma, contrast=change.contrast):
        return image
    cosine, sine = _cosine_sine(change.angle)
    height, width = image.shape
    sign = -1 if change.flip else 1
    x = _coordinates((sign * cosine, -sign * sine), change.kept_columns, change.column_position, width, height, width)
    y = _coordinates((sine, cosine), change.kept_rows, change.row_position, height, height, width)
    return _bilinear(image, x, y)


def _coordinates(
    rotation: tuple[int, int], kept: int, position: int, size: int, height: int, width: int
) -> NDArray[np.int32]:
    """(H, W) source column (or row) of every output pixel in 2^-17 pixel, counted from the frame and clipped to it."""
    a, b = ((factor * kept + ONE // 2) >> 16 for factor in rotation)
    crop = size * (ONE - kept) * (2 * position - ONE) >> 16
    u = a * np.arange(1 - width, width, 2, dtype=np.int32)
    v = b * np.arange(1 - height, height, 2, dtype=np.int32) + np.int32((size + 1) * ONE + crop)
    return np.clip(v[:, None] + u, 0, (size + 1) << 17)


def _bilinear(image: Gray, x: NDArray[np.int32], y: NDArray[np.int32]) -> Gray:
    """Sample at (x, y) in 2^-17 pixel; a frame of zeros (one before, two behind) stands for all that is outside."""
    stride = image.shape[1] + 3
    flat = np.pad(image, (1, 2)).ravel().astype(np.int32)
    corner = ((y >> 17) * stride + (x >> 17)).astype(np.intp)
    right = (x >> (17 - FRACTION)) & ((1 << FRACTION) - 1)
    down = (y >> (17 - FRACTION)) & ((1 << FRACTION) - 1)
    top = _lerp(flat.take(corner), flat.take(corner + 1), right)
    bottom = _lerp(flat.take(corner + stride), flat.take(corner + stride + 1), right)
    half = 1 << (2 * FRACTION - 1)
    return (_lerp(top, bottom, down) + half >> (2 * FRACTION)).astype(np.uint8)


def _lerp(first: NDArray[np.int32], second: NDArray[np.int32], weight: NDArray[np.int32]) -> NDArray[np.int32]:
    """first + (second − first) · weight, scaled by 2^FRACTION."""
    return (first << FRACTION) + (second - first) * weight
