"""Views: pictures derived from transferal pictures, bit for bit the same at the coordinator and at every site.

A view is a transferal picture after the ordinary augmentation and, with probability `mix`, mixed with another
transferal picture that has had an augmentation of its own (DESIGN §3, docs/views.md). The teachers answer the view
itself. Only the scheme crosses the wire, so nothing here may depend on a machine or on a library's version: draws come
from SHA-256, pixels from integer arithmetic.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import count
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nakt_fed.errors import DataError

SCHEME = "views/1"

# The ordinary augmentation (paper A.3). `augment.py` draws from the same ranges.
KEPT = (0.7, 1.0)  # share of consecutive rows, and of consecutive columns
DEGREES = 45
GAMMA = (0.7, 1.3)
CONTRAST = (0.7, 1.3)

BLEND = (0.3, 0.7)  # the picture's share in a blended view
MOST = 999  # views per picture: `view_id` has three digits
BOX = (0.25, 0.75)  # side of a pasted box as a share of the picture's side

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


@dataclass(frozen=True)
class ViewScheme:
    """What the manifest says about views; together with the pictures' ids it determines every recipe."""

    seed: int
    per_picture: int
    mix: float

    def to_dict(self) -> dict[str, Any]:
        """The manifest's entry."""
        return {"scheme": SCHEME, "seed": self.seed, "per_picture": self.per_picture, "mix": self.mix}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> "ViewScheme":
        """Read a manifest's entry.

        Raises:
            DataError: the scheme is not this version's, or a value is missing or impossible.
        """
        if entry.get("scheme") != SCHEME:
            raise DataError(
                f"manifest: views.scheme must be {SCHEME!r}, got {entry.get('scheme')!r}; "
                "install the same nakt_fed version at the coordinator and at every site"
            )
        seed, per_picture, mix = (entry.get(key) for key in ("seed", "per_picture", "mix"))
        if not (isinstance(seed, int) and isinstance(per_picture, int) and isinstance(mix, int | float)) or not (
            0 <= per_picture <= MOST and 0 <= mix <= 1
        ):
            raise DataError(
                f"manifest: views needs a whole seed, per_picture in 0..{MOST} and mix in 0..1, got {dict(entry)}; "
                "ask the coordinator for an undamaged manifest"
            )
        return cls(seed, per_picture, float(mix))

    def recipe(self, ids: Sequence[str], i: int, k: int) -> Recipe:
        """View `k` of picture `ids[i]`. The partner is any other picture; a set of one picture never mixes."""
        draws = _draws(self.seed, ids[i], k)
        change = _draw_change(draws)
        mixed = next(draws) < round(self.mix * 2**32)
        if not mixed or len(ids) == 1:
            return Recipe(change)
        partner = (i + _between(draws, 1, len(ids) - 1)) % len(ids)
        partner_change = _draw_change(draws)
        if next(draws) & 1:
            return Recipe(change, partner, partner_change, weight=_between(draws, *_whole(BLEND, LEVEL)))
        return Recipe(change, partner, partner_change, box=_draw_box(draws))


def view_id(picture_id: str, k: int) -> str:
    """`thyroid/12` and 3 give `thyroid/12~003`."""
    return f"{picture_id}~{k:03d}"


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


class Pictures(Protocol):
    """A numpy or zarr array (N, H, W) uint8."""

    def __getitem__(self, index: int, /) -> Any: ...


class Viewed:
    """The transferal set and its views as one long set: originals first, then views by picture, then by k.

    Views are rendered when asked for; memory does not grow with their number.
    """

    def __init__(self, ids: Sequence[str], images: Pictures, scheme: ViewScheme) -> None:
        self.originals = list(ids)
        self.images = images
        self.scheme = scheme
        self.ids = [*ids, *(view_id(name, k) for name in ids for k in range(scheme.per_picture))]

    def __len__(self) -> int:
        return len(self.ids)

    def picture(self, j: int) -> Gray:
        """Member `j` as (H, W) uint8."""
        if j < len(self.originals):
            return np.asarray(self.images[j])
        i, k = divmod(j - len(self.originals), self.scheme.per_picture)
        recipe = self.scheme.recipe(self.originals, i, k)
        partner = None if recipe.partner is None else np.asarray(self.images[recipe.partner])
        return render(recipe, np.asarray(self.images[i]), partner)

    def pictures(self, indices: Sequence[int]) -> Gray:
        """Members as (n, H, W) uint8, n at least 1."""
        return np.stack([self.picture(j) for j in indices])


def _draws(seed: int, picture_id: str, k: int) -> Iterator[int]:
    """Endless uint32, eight per digest."""
    for counter in count():
        digest = sha256(f"{SCHEME}|{seed}|{picture_id}|{k}|{counter}".encode()).digest()
        yield from struct.unpack(">8I", digest)


def _between(draws: Iterator[int], low: int, high: int) -> int:
    """A whole number in low..high, both included."""
    return low + (next(draws) * (high - low + 1) >> 32)


def _whole(bounds: tuple[float, float], unit: int) -> tuple[int, int]:
    """The range in whole units, never wider than the stated one."""
    return math.ceil(bounds[0] * unit), math.floor(bounds[1] * unit)


def _draw_change(draws: Iterator[int]) -> Change:
    return Change(
        kept_rows=_between(draws, *_whole(KEPT, ONE)),
        kept_columns=_between(draws, *_whole(KEPT, ONE)),
        row_position=_between(draws, 0, ONE),
        column_position=_between(draws, 0, ONE),
        flip=bool(next(draws) & 1),
        angle=_between(draws, -DEGREES * PER_DEGREE, DEGREES * PER_DEGREE),
        gamma=_between(draws, *_whole(GAMMA, LEVEL)),
        contrast=_between(draws, *_whole(CONTRAST, LEVEL)),
    )


def _draw_box(draws: Iterator[int]) -> Box:
    sides = _whole(BOX, LEVEL)
    return Box(
        height=_between(draws, *sides),
        width=_between(draws, *sides),
        top=_between(draws, 0, ONE - 1),
        left=_between(draws, 0, ONE - 1),
    )


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


@lru_cache(maxsize=2 * DEGREES * PER_DEGREE + 1)
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
