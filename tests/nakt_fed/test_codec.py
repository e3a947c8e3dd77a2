import struct
import tracemalloc

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nakt_fed.codec import decode, encode
from nakt_fed.errors import AnswerError

Gray = NDArray[np.uint8]


@st.composite
def stacks(draw: st.DrawFn) -> Gray:
    """(n, H, W) of any small shape: noise, a few levels, or one level."""
    n, height, width = draw(st.integers(0, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    top = draw(st.sampled_from([1, 2, 16, 256]))
    low = draw(st.integers(0, 256 - top))
    return rng.integers(low, low + top, (n, height, width), np.uint8)


@given(stacks())
@settings(max_examples=80, deadline=None)
def test_lossless(stack: Gray) -> None:
    back = decode(encode(stack), stack.shape)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, stack)


@given(stacks(), st.integers(1, 8))
@settings(max_examples=80, deadline=None)
def test_near_lossless_keeps_its_bound(stack: Gray, near: int) -> None:
    back = decode(encode(stack, near), stack.shape)
    assert np.abs(back.astype(int) - stack).max(initial=0) <= near


def smooth(n: int = 2, size: int = 32) -> Gray:
    """Soft masks as networks give them: a blurred disc."""
    y, x = np.mgrid[:size, :size]
    discs = [255 / (1 + np.exp((np.hypot(y - size / 2, x - size / 2) - size / 4 - i) / 1.5)) for i in range(n)]
    return np.rint(discs).astype(np.uint8)


def test_smooth_masks_shrink_and_near_shrinks_more() -> None:
    """32-bit floats take 4 bytes per pixel; at least 10 times less even for masks as small as these."""
    stack = smooth(4, 64)
    assert len(encode(stack)) < stack.size * 4 / 10
    assert len(encode(stack, near=1)) < 0.9 * len(encode(stack))


def test_a_part_of_a_larger_array_is_coded_as_it_looks() -> None:
    whole = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8)
    part = whole[1:3, ::2, ::-1]
    np.testing.assert_array_equal(decode(encode(part), (2, 4, 8)), part)


@pytest.mark.parametrize("expect", [(2, 32, 31), (2, 31, 32), (1, 32, 32), (3, 32, 32)])
def test_another_shape_is_refused(expect: tuple[int, int, int]) -> None:
    with pytest.raises(AnswerError, match=r"shape \(2, 32, 32\); expected"):
        decode(encode(smooth()), expect)


@pytest.mark.parametrize("blob", [b"", b"NKT1", b"\x80\x04pickle" * 9, b"NKT2" + encode(smooth())[4:]])
def test_what_is_no_stack_is_refused(blob: bytes) -> None:
    with pytest.raises(AnswerError, match=r"no coded masks; expected a stack \(2, 32, 32\)"):
        decode(blob, (2, 32, 32))


def test_every_truncation_is_refused() -> None:
    blob = encode(smooth(size=8))
    for length in range(len(blob)):
        with pytest.raises(AnswerError):
            decode(blob[:length], (2, 8, 8))


def test_bytes_too_many_are_refused() -> None:
    with pytest.raises(AnswerError, match="cut short or have bytes too many"):
        decode(encode(smooth()) + b"\0", (2, 32, 32))


def damaged(blob: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, cut out, doubled or put in; or nothing but noise behind a good head."""
    data, kind = bytearray(blob), rng.integers(5)
    a, b = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    if kind == 0:
        for at in rng.integers(0, len(data), rng.integers(1, 9)):
            data[at] = rng.integers(256)
    elif kind == 1:
        del data[a:b]
    elif kind == 2:
        data[a:a] = data[a:b]
    elif kind == 3:
        data[a:a] = rng.bytes(int(rng.integers(1, 20)))
    else:
        data[24:] = rng.bytes(len(data) - 24)
    return bytes(data)


def test_damage_never_does_more_than_be_refused() -> None:
    """JPEG-LS has no checksum: what still decodes has the right shape, everything else is an AnswerError."""
    rng = np.random.default_rng(0)
    blob = encode(smooth(size=16))
    refused, messages = 0, set()
    for _ in range(800):
        bad = damaged(blob, rng)
        try:
            masks = decode(bad, (2, 16, 16))
        except AnswerError as error:
            refused += bad != blob
            messages.add(str(error))
        else:
            assert (masks.shape, masks.dtype) == ((2, 16, 16), np.uint8)
    assert refused > 500
    assert all("again" in message or "expected" in message for message in messages)


def frame_with_size(height: int, width: int, hide: bool = False) -> bytes:
    """A JPEG-LS frame that claims another size than it has; hidden behind a comment that looks like an honest size."""
    frame = bytearray(imagecodecs.jpegls_encode(np.zeros((8, 8), np.uint8)))
    at = frame.index(b"\xff\xf7")
    honest = bytes(frame[at : at + 13])
    frame[at + 5 : at + 9] = struct.pack(">HH", height, width)
    if hide:
        frame[2:2] = b"\xff\xfe" + struct.pack(">H", 2 + len(honest)) + honest
    return bytes(frame)


def wrapped(frame: bytes) -> bytes:
    return struct.pack("<4sIIII", b"NKT1", 1, 8, 8, len(frame)) + frame


@pytest.mark.parametrize(
    "blob",
    [
        struct.pack("<4sIII", b"NKT1", 2**32 - 1, 2**32 - 1, 2**32 - 1),
        struct.pack("<4sIII", b"NKT1", 1, 8, 8) + struct.pack("<I", 2**32 - 1),
        wrapped(frame_with_size(60000, 60000)),
        wrapped(frame_with_size(60000, 60000, hide=True)),
        wrapped(bytes(imagecodecs.jpegls_encode(np.zeros((4000, 4000), np.uint8)))),
    ],
    ids=["head", "length", "frame", "hidden", "honest frame of another size"],
)
def test_a_huge_claim_allocates_nothing(blob: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(AnswerError):
            decode(blob, (1, 8, 8))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "other", [np.full((8, 8), 1000, np.uint16), np.full((8, 8, 3), 1, np.uint8)], ids=["16 bits", "three channels"]
)
def test_frames_of_another_kind_are_refused(other: NDArray[np.generic]) -> None:
    with pytest.raises(AnswerError, match="frame 0 of the coded masks is damaged or not 8×8 JPEG-LS"):
        decode(wrapped(bytes(imagecodecs.jpegls_encode(other))), (1, 8, 8))
