import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nakt_fed.data.pictures import content_hash, read_gray, read_mask, resize_image, resize_mask
from nakt_fed.errors import DataError

GRAY = (np.arange(12 * 16).reshape(12, 16) % 256).astype(np.uint8)
ORIENTATION = 0x0112
ALL_BUT_JPEG = ["png", "tif", "bmp"]


def saved(folder: Path, name: str, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [("png", mode) for mode in ("L", "LA", "P", "RGB", "RGBA")]
    + [("tiff", mode) for mode in ("L", "LA", "P", "RGB", "RGBA")]
    + [("bmp", mode) for mode in ("L", "P", "RGB", "RGBA")],
)
def test_gray_survives_every_lossless_format_and_mode(tmp_path, suffix, mode):
    gray = np.asarray(read_gray(saved(tmp_path, f"x.{suffix}", GRAY, mode)))
    assert gray.dtype == np.uint8
    np.testing.assert_array_equal(gray, GRAY)  # luma of (v, v, v) is v


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("suffix", ["jpg", "JPEG"])
def test_jpeg_is_read_within_its_loss(tmp_path, suffix, mode):
    smooth = np.repeat(np.linspace(0, 255, 32).astype(np.uint8)[None], 32, axis=0)
    gray = read_gray(saved(tmp_path, f"x.{suffix}", smooth, mode, quality=95))
    assert np.abs(gray.astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("suffix", ALL_BUT_JPEG)
def test_one_bit_pictures_become_0_and_255(tmp_path, suffix):
    gray = read_gray(saved(tmp_path, f"x.{suffix}", GRAY > 90))
    np.testing.assert_array_equal(gray, np.where(GRAY > 90, 255, 0))


def test_colour_becomes_luma_of_itu_r_601(tmp_path):
    # 0.299 · 200 + 0.587 · 100 + 0.114 · 50 = 59.8 + 58.7 + 5.7 = 124.2
    colour = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    assert (read_gray(saved(tmp_path, "x.png", colour)) == 124).all()


def test_transparency_is_passed_over(tmp_path):
    pixels = np.dstack([GRAY, GRAY, GRAY, np.zeros_like(GRAY)])
    np.testing.assert_array_equal(read_gray(saved(tmp_path, "x.png", pixels)), GRAY)


@pytest.mark.parametrize(
    ("suffix", "dtype"), [("png", "<u2"), ("png", ">u2"), ("tif", "<u2"), ("tif", ">u2"), ("tif", "int32")]
)
def test_sixteen_bits_become_eight_over_the_full_range(tmp_path, suffix, dtype):
    # v / 257, rounded: 128 / 257 = 0.498 -> 0, 129 / 257 = 0.502 -> 1, 32768 / 257 = 127.502 -> 128
    values = np.zeros((8, 8), np.int64)
    values[0, :6] = [0, 128, 129, 257, 32768, 65535]
    gray = read_gray(saved(tmp_path, f"x.{suffix}", values.astype(dtype)))
    assert gray[0, :6].tolist() == [0, 0, 1, 1, 128, 255]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_the_orientation_tag_is_applied(tmp_path, suffix):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # "row 0 is the right side": turn by 90° clockwise to show
    top_bright = np.zeros((16, 24), np.uint8)
    top_bright[:8] = 255
    gray = read_gray(saved(tmp_path, f"x.{suffix}", top_bright, exif=exif))
    assert gray.shape == (24, 16)
    assert gray[:, 8:].min() > 200
    assert gray[:, :8].max() < 50


def test_resize_stretches_to_a_square():
    square = resize_image(GRAY, 32)
    assert square.shape == (32, 32)
    assert square.dtype == np.uint8
    np.testing.assert_array_equal(resize_image(np.full((9, 30), 77, np.uint8), 8), np.full((8, 8), 77))


def test_resize_to_half_is_the_antialiased_triangle():
    # triangle of support 2 around the centre of each pair: weights 1/8, 3/8, 3/8, 1/8; constant down the columns
    row = np.array([0, 80, 160, 240, 40, 8, 200, 100, 16, 64, 0, 0, 8, 8, 8, 8], np.uint8)
    halved = resize_image(np.tile(row, (16, 1)), 8)[4]
    expected = [np.dot(row[i - 1 : i + 3], [1 / 8, 3 / 8, 3 / 8, 1 / 8]) for i in range(2, 14, 2)]
    assert np.abs(halved[1:7] - np.array(expected)).max() <= 0.5


def test_masks_are_resized_by_nearest():
    mask = np.where(np.indices((16, 16)).sum(0) > 15, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(
        resize_mask(mask, 8), mask[1::2, 1::2]
    )  # Pillow's centre 2i + 1 falls on the odd pixel
    assert set(np.unique(resize_mask(mask, 11))) == {0, 255}


def test_content_hash_tells_shape_and_pixels_apart():
    flat = np.arange(64, dtype=np.uint8)
    assert content_hash(flat.reshape(8, 8)) != content_hash(flat.reshape(4, 16))
    assert content_hash(GRAY) == content_hash(np.asfortranarray(GRAY)) != content_hash(GRAY + 1)
    # echo -n "2x1:AB" | sha256sum
    assert content_hash(np.array([[65], [66]], np.uint8)).startswith("c0424262")


# ---- masks ----

TRUTH = np.where(GRAY > 90, 255, 0).astype(np.uint8)


@pytest.mark.parametrize("suffix", ALL_BUT_JPEG)
@pytest.mark.parametrize("values", [TRUTH, TRUTH // 255, TRUTH > 0, np.dstack([TRUTH, TRUTH, TRUTH])])
def test_masks_of_every_style_become_0_and_255(tmp_path, suffix, values):
    np.testing.assert_array_equal(read_mask(saved(tmp_path, f"m.{suffix}", values)), TRUTH)


@pytest.mark.parametrize("factor", [1, 65535])
def test_sixteen_bit_masks(tmp_path, factor):
    values = (TRUTH > 0).astype(np.uint16) * factor
    np.testing.assert_array_equal(read_mask(saved(tmp_path, "m.png", values)), TRUTH)


def test_a_mask_in_one_colour_counts_by_its_brightest_channel(tmp_path):
    red = np.dstack([TRUTH, 0 * TRUTH, 0 * TRUTH])  # luma 76 of 255, would be lost at one half
    np.testing.assert_array_equal(read_mask(saved(tmp_path, "m.png", red)), TRUTH)
    palette = Image.fromarray((TRUTH > 0).astype(np.uint8), mode=None).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])  # VOC's first two colours
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "p.png"), TRUTH)


def test_transparent_pixels_of_a_mask_are_background(tmp_path):
    white = np.full_like(TRUTH, 255)
    np.testing.assert_array_equal(read_mask(saved(tmp_path, "m.png", np.dstack([white, white, white, TRUTH]))), TRUTH)


def test_the_ringing_of_a_jpeg_mask_stays_out(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255  # edges on the 8×8 blocks
    mask[8:24, 12] = 255
    np.testing.assert_array_equal(read_mask(saved(tmp_path, "m.jpg", mask, quality=75)), mask)


def test_an_all_black_mask_is_empty(tmp_path):
    assert not read_mask(saved(tmp_path, "m.png", 0 * GRAY)).any()


def test_a_label_map_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"m\.png.*brightest value is 2; .*write the label you mean as 255"):
        read_mask(saved(tmp_path, "m.png", (GRAY % 3).astype(np.uint8)))


# ---- bad input ----


def empty_png(width: int, height: int) -> bytes:
    """A PNG of which only the header says how large it is."""

    def block(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", zlib.compress(b"\0")) + block(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    path = saved(tmp_path, f"cut.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"cut\.{suffix} cannot be read .*undamaged copy or remove it"):
        read_gray(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(40)])
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.png cannot be read as PNG, JPEG, TIFF, BMP"):
        read_gray(tmp_path / "x.png")


@pytest.mark.parametrize("read", [read_gray, read_mask])
@pytest.mark.parametrize("shape", [(1, 1), (7, 100), (100, 7)])
def test_a_picture_smaller_than_8x8_is_refused(tmp_path, read, shape):
    with pytest.raises(DataError, match=rf"x\.png has {shape[1]}×{shape[0]} pixels, at least 8×8 are needed"):
        read(saved(tmp_path, "x.png", np.zeros(shape, np.uint8)))


def test_8x8_is_enough(tmp_path):
    assert read_gray(saved(tmp_path, "x.png", np.zeros((8, 8), np.uint8))).shape == (8, 8)


@pytest.mark.parametrize("side", [8_001, 50_000])  # ours, and Pillow's own alarm for a decompression bomb
def test_a_decompression_bomb_is_refused_before_decoding(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(empty_png(side, side))
    with pytest.raises(DataError, match=r"bomb\.png"):
        read_gray(tmp_path / "bomb.png")


def test_a_float_tiff_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"x\.tif has pixels of Pillow's mode 'F'; save it as 8- or 16-bit gray"):
        read_gray(saved(tmp_path, "x.tif", GRAY.astype(np.float32)))


def test_cmyk_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"x\.jpg has pixels of Pillow's mode 'CMYK'; save it as"):
        read_gray(saved(tmp_path, "x.jpg", np.dstack([GRAY] * 3), "CMYK"))


@pytest.mark.parametrize("values", [(-5, 10), (0, 70000)])
def test_more_than_sixteen_bits_are_refused(tmp_path, values):
    pixels = np.full((8, 8), values[0], np.int32)
    pixels[0, 0] = values[1]
    with pytest.raises(DataError, match=rf"x\.tif has values from {values[0]} to {values[1]}, outside 0 to 65535"):
        read_gray(saved(tmp_path, "x.tif", pixels))


@pytest.mark.parametrize("orientation", [1, 2, 3, 4])
def test_a_tiff_that_is_flipped_by_its_tag_is_read_as_a_png_is(tmp_path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    paths = [saved(tmp_path, f"x.{suffix}", GRAY, exif=exif) for suffix in ("tif", "png")]
    np.testing.assert_array_equal(read_gray(paths[0]), read_gray(paths[1]))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_on_its_side_is_refused(tmp_path, orientation, compression):
    path = saved(tmp_path, "x.tif", GRAY, tiffinfo={ORIENTATION: orientation}, compression=compression)
    with pytest.raises(DataError, match=r"x\.tif is a TIFF turned by its orientation tag; save it upright"):
        read_gray(path)


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_several_frames_are_refused(tmp_path, suffix):
    frames = [Image.fromarray(GRAY + i) for i in range(3)]
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="holds 3 frames; save each frame"):
        read_gray(tmp_path / f"x.{suffix}")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png is not there; check the path"):
        read_gray(tmp_path / "gone.png")


def test_a_file_that_is_not_ours_to_read_is_not_called_damaged(tmp_path, monkeypatch):
    def closed(*arguments, **options):  # root may read any file
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", closed)
    with pytest.raises(DataError, match=r"a\.png may not be read; change its permissions"):
        read_gray(tmp_path / "a.png")
