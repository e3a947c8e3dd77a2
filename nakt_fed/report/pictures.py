"""Pictures for the page: small JPEG data URIs, and masks as contours drawn over a picture that is embedded once."""

import base64
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from contourpy import contour_generator
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

Gray = NDArray[np.uint8]
SIDE = 144
"""Largest side, in pixels, of an embedded picture: sharp as it is shown, and a hundred of them stay below 1 MB."""

OUTLINE = 8000
"""Letters of an outline, ten for a point: several times what a lesion needs."""


@dataclass(frozen=True)
class Picture:
    """An embedded picture. `key` is its id in the page: tiles of the same picture refer to it."""

    key: str
    uri: str


@dataclass(frozen=True)
class Tile:
    """A cell of a gallery row: a soft mask or picture of its own (`uri`), or an embedded `picture` with outlines."""

    caption: str
    alt: str
    picture: str = ""
    uri: str = ""
    mask: str = ""
    truth: str = ""
    value: str = ""


def shrink(gray: Gray) -> Gray:
    """(H, W) uint8 -> at most SIDE × SIDE, area-averaged; never enlarged."""
    if gray.shape[0] <= SIDE:
        return gray
    return np.asarray(Image.fromarray(gray).resize((SIDE, SIDE), Image.Resampling.BOX))


def data_uri(gray: Gray, quality: int = 82) -> str:
    """(H, W) uint8 as a JPEG data URI."""
    out = BytesIO()
    Image.fromarray(shrink(gray)).save(out, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def heat_uri(values: NDArray[np.floating], top: float) -> str:
    """(H, W) numbers from 0 (black) to `top` and above (light yellow) as a JPEG data URI, with matplotlib's inferno."""
    share = np.clip(values / top, 0, 1) if top > 0 else np.zeros_like(values)
    colours = np.rint(255 * colormaps["inferno"](share)[..., :3]).astype(np.uint8)
    out = BytesIO()
    Image.fromarray(colours).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(out, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def outline(mask: Gray) -> str:
    """SVG path, in a box of 100 × 100, of where a soft mask (H, W) uint8 crosses one half; empty for an empty mask.

    Largest parts first. A ragged mask of thousands of specks, as a useless teacher gives, is thinned and cut off.
    """
    small = np.pad(shrink(mask), 1)  # a rim of zeros closes the contours of a lesion that touches the border
    scale = 100 / (small.shape[0] - 2)
    lines = contour_generator(z=small.astype(float)).lines(127.5)
    path = ""
    for line in sorted(map(np.asarray, lines), key=len, reverse=True):
        points = (line[: -1 : 1 + len(line) // (OUTLINE // 10)] - 0.5) * scale
        path += "M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in points) + "Z"
        if len(path) > OUTLINE:
            break
    return path
