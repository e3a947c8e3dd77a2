"""The wire codec: a stack of pictures or masks as JPEG-LS frames (ISO 14495-1, the lossless codec of DICOM).

Measured on real soft masks at 256×256: 1.4 bits per pixel, against 3.0 for zstd and 2.0 for PNG. With `near = 1` no pixel
moves by more than one gray level. A frame: magic, count, height, width, the frames' lengths, the frames.
"""

import struct

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from nakt_fed.errors import AnswerError

MAGIC = b"NKT1"
_HEAD = struct.Struct("<4sIII")


def encode(stack: NDArray[np.uint8], near: int = 0) -> bytes:
    """(n, H, W) uint8 -> bytes. Lossless when `near` is 0, else no pixel changes by more than `near` gray levels."""
    frames = [imagecodecs.jpegls_encode(np.ascontiguousarray(image), level=near) for image in stack]
    head = _HEAD.pack(MAGIC, *stack.shape)
    return b"".join([head, np.array([len(frame) for frame in frames], dtype="<u4").tobytes(), *frames])


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
    end = np.cumsum(lengths, dtype=np.int64)
    for index, (stop, length) in enumerate(zip(end.tolist(), lengths.tolist(), strict=True)):
        try:  # into our own memory: whatever size a frame claims, nothing is allocated for it
            imagecodecs.jpegls_decode(bytes(body[stop - length : stop]), out=stack[index])
        except Exception as error:  # the library raises its own family and ValueError
            what = f"frame {index} of the coded masks is damaged or not {shape[1]}×{shape[2]} JPEG-LS"
            raise AnswerError(f"{what} ({type(error).__name__}); send them again") from None
    return stack
