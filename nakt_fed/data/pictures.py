"""One picture file becomes one gray array; the transform has a version that goes into the manifest."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from nakt_fed.errors import DataError

PREPROCESSING = "gray-square-bilinear/1"
"""Luma of ITU-R 601, stretched to a square by Pillow's BILINEAR in integers (antialiased where it makes smaller)."""

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
EIGHT_BIT = {"1", "L", "LA", "P", "RGB", "RGBA"}
WIDE = {"I", "I;16", "I;16B", "I;16L", "I;16N"}
MIN_SIDE = 8
MAX_PIXELS = 64_000_000

Gray = npt.NDArray[np.uint8]


def read_gray(path: Path) -> Gray:
    """Decode a PNG, JPEG, TIFF or BMP.

    Orientation tags are applied, transparency is passed over, 16 bits become 8 by v / 257 (0..65535 onto 0..255).

    Returns:
        (h, w) uint8, luma.

    Raises:
        DataError: not decodable, more than one frame, floats, a TIFF that lies on its side, smaller than 8×8 or larger
            than 64 million pixels.
    """
    picture = decode(path)
    if picture.mode in WIDE:
        return ((_wide(picture, path) + 128) // 257).astype(np.uint8)
    return np.asarray(_without_palette(picture).convert("L"))


def read_mask(path: Path) -> Gray:
    """Decode a mask; what counts is the brightest channel of a pixel, and a transparent pixel is background.

    Where a mask holds only 0 and 1, 1 is foreground. In any other, foreground is what reaches half of the file's full
    range (128 of 255, 32768 of 65535), so that the ringing of JPEG stays out.

    Returns:
        (h, w) uint8, 0 or 255.

    Raises:
        DataError: as `read_gray`; or the brightest value lies between 1 and half of full range, as in a label map.
    """
    values, full = _mask_values(decode(path), path)
    brightest = int(values.max())
    if 1 < brightest < (full + 1) // 2:
        raise DataError(
            f"{path}: a mask holds 0 and 1 or 0 and {full}, but its brightest value is {brightest}; "
            f"if it is a label map, write the label you mean as {full} and the rest as 0"
        )
    threshold = 1 if brightest <= 1 else (full + 1) // 2
    return np.where(values >= threshold, 255, 0).astype(np.uint8)


def resize_image(gray: Gray, size: int) -> Gray:
    """(h, w) uint8 -> (size, size) uint8, bilinear, the aspect ratio is not kept."""
    return np.asarray(Image.fromarray(gray).resize((size, size), Image.Resampling.BILINEAR))


def resize_mask(mask: Gray, size: int) -> Gray:
    """(h, w) uint8 0 or 255 -> (size, size) uint8 0 or 255, nearest."""
    return np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))


def content_hash(image: Gray) -> str:
    """Hex SHA-256 of "HxW:" and then the bytes, row by row: equal exactly when shape and pixels are."""
    shape = "x".join(map(str, image.shape))
    return hashlib.sha256(f"{shape}:".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def decode(path: Path) -> Image.Image:
    """Pillow's picture, upright. Raises DataError as `read_gray`."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            _check_header(picture, path)
            return ImageOps.exif_transpose(picture)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path} is not there; check the path") from None
    except PermissionError:
        raise DataError(f"{path} may not be read; change its permissions") from None
    except Exception as error:  # damage makes decoders raise OSError, SyntaxError, struct.error, ...
        raise DataError(
            f"{path} cannot be read as {', '.join(FORMATS)}: {error}; replace it by an undamaged copy or remove it"
        ) from None


def _check_header(picture: Image.Image, path: Path) -> None:
    """What can be refused before a pixel is decoded."""
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{path} has {width}×{height} pixels, more than {MAX_PIXELS:,}; make it smaller")
    if min(width, height) < MIN_SIDE:
        raise DataError(f"{path} has {width}×{height} pixels, at least {MIN_SIDE}×{MIN_SIDE} are needed; remove it")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # MPO is a camera's JPEG with a preview behind the picture
        raise DataError(f"{path} holds {frames} frames; save each frame as a picture of its own")
    # Pillow 13 decodes an uncompressed TIFF with the width and height of the turned picture: the pixels are scrambled
    if picture.format == "TIFF" and picture.getexif().get(ExifTags.Base.Orientation, 1) > 4:
        raise DataError(f"{path} is a TIFF turned by its orientation tag; save it upright, without the tag")
    if picture.mode not in EIGHT_BIT | WIDE:
        raise DataError(f"{path} has pixels of Pillow's mode {picture.mode!r}; save it as 8- or 16-bit gray or as RGB")


def _wide(picture: Image.Image, path: Path) -> npt.NDArray[np.int64]:
    """(h, w) int64 in 0..65535 from a file with more than 8 bits."""
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(
            f"{path} has values from {values.min()} to {values.max()}, outside 0 to 65535; "
            "scale it to that range and save it as 16-bit gray"
        )
    return values


def _without_palette(picture: Image.Image) -> Image.Image:
    """A palette may hold transparency, which Pillow keeps only on the way to RGBA."""
    return picture.convert("RGBA") if picture.mode == "P" else picture


def _mask_values(picture: Image.Image, path: Path) -> tuple[npt.NDArray[Any], int]:
    """(h, w) brightest visible channel, and the file's full range: 255 or 65535."""
    if picture.mode in WIDE:
        return _wide(picture, path), 65535
    if picture.mode in {"1", "L"}:
        return np.asarray(picture.convert("L")), 255
    pixels = np.asarray(picture.convert("RGBA"))
    return np.where(pixels[..., 3] >= 128, pixels[..., :3].max(axis=2), 0), 255
