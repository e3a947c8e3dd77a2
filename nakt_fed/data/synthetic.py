"""Pictures that look a little like ultrasound, with exact masks, for fast tests: nobody's data."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from nakt_fed.data.folders import PictureSet
from nakt_fed.data.pictures import Gray

LESION_ECHO = 0.25
"""Amplitude inside the lesion as a share of the tissue's: hypoechoic."""

Field = npt.NDArray[np.float64]


def synthetic_set(n: int, size: int, seed: int, gain: float = 1.0, empty_share: float = 0.0) -> PictureSet:
    """Tissue under Rayleigh speckle that gets darker with depth, and one dark elliptic lesion.

    Args:
        n: pictures.
        size: side in pixels.
        seed: the same seed gives the same pictures; another one gives others.
        gain: brightness of the site's scanner, a factor on the amplitude.
        empty_share: share of pictures without a lesion (all-zero mask), rounded to whole pictures.

    Returns:
        ids "synthetic/0000", ...; images and masks (n, size, size) uint8.
    """
    rng = np.random.default_rng(seed)
    empty = set(rng.permutation(n)[: round(empty_share * n)].tolist())
    images, masks = np.empty((2, n, size, size), np.uint8)
    for i in range(n):
        inside = np.zeros((size, size), bool) if i in empty else _ellipse(size, rng)
        images[i] = _scan(inside, gain, rng)
        masks[i] = np.where(inside, 255, 0)
    return PictureSet([f"synthetic/{i:04d}" for i in range(n)], images, masks)


def write_folder(pictures: PictureSet, folder: Path) -> None:
    """Write `folder`/images/<stem>.png and, where there are masks, `folder`/masks/<stem>.png."""
    for kind, arrays in (("images", pictures.images), ("masks", pictures.masks)):
        if arrays is None:
            continue
        target = Path(folder) / kind
        target.mkdir(parents=True, exist_ok=True)
        for name, array in zip(pictures.ids, arrays, strict=True):
            Image.fromarray(array).save(target / f"{name.rpartition('/')[2]}.png")


def _ellipse(size: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Half axes of 10 to 25 % of the side, any direction, wholly inside the picture."""
    major, minor = sorted(rng.uniform(0.10, 0.25, 2), reverse=True)
    x0, y0 = rng.uniform(major, 1 - major, 2)
    angle = rng.uniform(0, np.pi)
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    u = (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)
    v = (y - y0) * np.cos(angle) - (x - x0) * np.sin(angle)
    return np.asarray((u / major) ** 2 + (v / minor) ** 2 <= 1)


def _scan(inside: npt.NDArray[np.bool_], gain: float, rng: np.random.Generator) -> Gray:
    """Echo amplitude = tissue × attenuation(depth) × speckle × gain."""
    size = len(inside)
    echo = gaussian_filter(np.where(inside, LESION_ECHO, 1.0), 0.01 * size)
    tissue = 1 + 0.3 * _smooth_noise(size, rng)
    attenuation = np.exp(-rng.uniform(0.3, 1.0) * np.linspace(0, 1, size))[:, None]
    speckle = gaussian_filter(rng.rayleigh(0.8, (size, size)), 0.7)
    amplitude = 120 * gain * echo * tissue * attenuation * speckle
    return np.asarray(np.clip(np.rint(amplitude), 0, 255), np.uint8)


def _smooth_noise(size: int, rng: np.random.Generator) -> Field:
    """Slow variation of the tissue, about -1..1."""
    field = gaussian_filter(rng.standard_normal((size, size)), 0.12 * size)
    return np.asarray(field / np.abs(field).max())
