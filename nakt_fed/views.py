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
from hashlib import sha256
from itertools import count
from typing import Any, Protocol

import numpy as np

from nakt_fed.errors import DataError
from nakt_fed.render import LEVEL, ONE, PER_DEGREE, Box, Change, Gray, Recipe, render

SCHEME = "views/1"

# The ordinary augmentation (paper A.3). `augment.py` draws from the same ranges.
KEPT = (0.7, 1.0)  # share of consecutive rows, and of consecutive columns
DEGREES = 45
GAMMA = (0.7, 1.3)
CONTRAST = (0.7, 1.3)

BLEND = (0.3, 0.7)  # the picture's share in a blended view
MOST = 999  # views per picture: `view_id` has three digits
BOX = (0.25, 0.75)  # side of a pasted box as a share of the picture's side


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
