"""The wire codec: a stack of pictures or masks as JPEG-LS (ISO 14495-1, the lossless codec of DICOM).

Measured on real soft masks at 256×256: 1.4 bits per pixel, against 3.0 for zstd and 2.0 for PNG. With `near = 1` no pixel
moves by more than one gray level.

Bytes: magic, count, height, width, a length per picture, the JPEG-LS frames. Pictures are coded one below the other in one
frame, so that the coder goes on with what it has learnt (7 % fewer bytes at 96×96); a length of 0 says that a picture lies
below the one before.
"""

import struct
from itertools import pairwise

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from nakt_fed.errors import AnswerError

MAGIC = b"NKT1"
MOST_ROWS = 65535  # of a JPEG-LS frame
_HEAD = struct.Struct("<4sIII")


def encode(stack: NDArray[np.uint8], near: int = 0) -> bytes:
    """(n, H, W) uint8 -> bytes. Lossless when `near` is 0, else no pixel changes by more than `near` gray levels."""
    count, height, width = stack.shape
    together = 1 if near else max(1, MOST_ROWS // max(1, height))  # lossy values must not depend on the neighbours
    frames, lengths = [], np.zeros(count, dtype="<u4")
    for start in range(0, count, together):
        rows = np.ascontiguousarray(stack[start : start + together]).reshape(-1, width)
        frames.append(imagecodecs.jpegls_encode(rows, level=near))
        lengths[start] = len(frames[-1])
    return b"".join([_HEAD.pack(MAGIC, *stack.shape), lengths.tobytes(), *frames])


def decode(blob: bytes, expect: tuple[int, int, int]) -> NDArray[np.uint8]:
    """bytes -> (n, H, W) uint8. The shape must be the expected one, so that a stranger cannot fill the memory.

    Raises:
        AnswerError: not our format, another shape, or a damaged frame.
    """
    if len(blob) < _HEAD.size or not blob.startswith(MAGIC):
        raise AnswerError(
            f"{len(blob)} bytes that are no coded masks; expected a stack {expect}; do both sides run the same nakt-fed?"
        )
    shape = _HEAD.unpack_from(blob)[1:]
    if shape != tuple(expect):
        raise AnswerError(f"coded masks of shape {shape}; expected {tuple(expect)}")
    lengths = (
        np.frombuffer(blob, dtype="<u4", count=shape[0], offset=_HEAD.size)
        if len(blob) >= _HEAD.size + 4 * shape[0]
        else None
    )
    if lengths is None or _HEAD.size + 4 * shape[0] + int(lengths.sum()) != len(blob):
        raise AnswerError(f"coded masks of shape {shape} are cut short or have bytes too many; send them again")
    return _frames(memoryview(blob)[_HEAD.size + 4 * shape[0] :], lengths, shape)


def _frames(body: memoryview, lengths: NDArray[np.uint32], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    stack = np.empty(shape, dtype=np.uint8)
    firsts, end = np.flatnonzero(lengths).tolist(), np.cumsum(lengths, dtype=np.int64)
    if shape[0] and firsts[:1] != [0]:
        raise AnswerError(f"coded masks of shape {shape} begin without a frame; send them again")
    for first, after in pairwise([*firsts, shape[0]]):
        stop, length = int(end[first]), int(lengths[first])
        rows = stack[first:after].reshape(-1, shape[2])
        try:  # into our own memory: whatever size a frame claims, nothing is allocated for it
            imagecodecs.jpegls_decode(bytes(body[stop - length : stop]), out=rows)
        except Exception as error:  # the library raises its own family and ValueError
            what = f"frame {first} of the coded masks is damaged or not {len(rows)}×{shape[2]} JPEG-LS"
            raise AnswerError(f"{what} ({type(error).__name__}); send them again") from None
    return stack
