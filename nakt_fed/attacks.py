"""Planted faults and attacks: what a broken, careless or hostile site might answer in the place of its masks.

For tests and for measuring how a way of combining stands it (docs/weighting.md). An attack gets the honest answers of its
own site and gives others of the same shape; what it draws follows from seed and picture alone, so chunks do not matter.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from nakt_fed.errors import StudyError
from nakt_fed.filtering import PAPER_SIZE
from nakt_fed.fusion import sharpen
from nakt_fed.seeds import draw

Masks = NDArray[np.uint8]
"""(n, H, W), probability × 255."""
Attack = Callable[[Masks, Sequence[str], int], Masks]
"""(honest masks, the pictures' ids, seed) -> what is sent instead; both (n, H, W) uint8."""

SHIFT = 20
"""Pixels at 384×384; scales with the side."""


def blank(masks: Masks, ids: Sequence[str], seed: int) -> Masks:
    """Nothing is a target."""
    return np.zeros_like(masks)


def all_positive(masks: Masks, ids: Sequence[str], seed: int) -> Masks:
    """Everything is a target."""
    return np.full_like(masks, 255)


def inverted(masks: Masks, ids: Sequence[str], seed: int) -> Masks:
    """Target and background are swapped: also what a teacher trained on flipped labels would answer."""
    return 255 - masks


def shuffled(masks: Masks, ids: Sequence[str], seed: int) -> Masks:
    """Each picture gets the answer to another one of those that were asked together; a picture alone keeps its own."""
    order = np.random.default_rng(draw(seed, "shuffled")).permutation(len(masks))
    other = np.empty(len(masks), int)
    other[order] = np.roll(order, 1)  # one cycle: none keeps its own
    return masks[other]


def shifted(masks: Masks, ids: Sequence[str], seed: int) -> Masks:
    """Down and to the right by 20 pixels at 384×384; what comes in is empty."""
    by = max(1, round(SHIFT * masks.shape[1] / PAPER_SIZE))
    moved = np.zeros_like(masks)
    moved[:, by:, by:] = masks[:, :-by, :-by]
    return moved


def noise(masks: Masks, ids: Sequence[str], seed: int) -> Masks:
    """Every pixel is drawn."""
    return _per_picture(masks, ids, seed, lambda rng, shape: rng.integers(0, 256, shape, np.uint8))


def colluding(masks: Masks, ids: Sequence[str], seed: int) -> Masks:
    """A made-up lesion, sure and with a soft rim; sites of one seed answer alike, so they confirm each other."""
    return _per_picture(masks, ids, seed, _lesion)


def overconfident(masks: Masks, ids: Sequence[str], seed: int) -> Masks:
    """The site's own opinion, but never in doubt: probabilities go to 0 or 1 (temperature 0.05)."""
    return sharpen(masks, 0.05)


ATTACKS: dict[str, Attack] = {
    each.__name__: each for each in (blank, all_positive, inverted, shuffled, shifted, noise, colluding, overconfident)
}


def attacked(name: str, masks: Masks, ids: Sequence[str], seed: int) -> Masks:
    """The answers of a site under this attack.

    Raises:
        StudyError: there is no such attack.
    """
    if name not in ATTACKS:
        raise StudyError(f"there is no attack {name!r}; take one of {', '.join(ATTACKS)}")
    return ATTACKS[name](masks, ids, seed)


def _per_picture(
    masks: Masks, ids: Sequence[str], seed: int, make: Callable[[np.random.Generator, tuple[int, int]], Masks]
) -> Masks:
    height, width = masks.shape[1:]
    return np.stack([make(np.random.default_rng(draw(seed, f"attack {i}")), (height, width)) for i in ids])


def _lesion(rng: np.random.Generator, shape: tuple[int, int]) -> Masks:
    """An ellipse of 2 to 20 % of the picture, somewhere inside."""
    height, width = shape
    y, x = np.ogrid[:height, :width]
    (top, left), (tall, wide) = rng.uniform(0.25, 0.75, 2), rng.uniform(0.08, 0.25, 2)
    inside = ((y / height - top) / tall) ** 2 + ((x / width - left) / wide) ** 2 <= 1
    soft: Masks = np.rint(gaussian_filter(255.0 * inside, width / 64)).astype(np.uint8)
    return soft
