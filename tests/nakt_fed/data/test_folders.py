import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from nakt_fed.data.folders import (
    PictureSet,
    list_pictures,
    list_transferal,
    load_annotated,
    load_pictures,
    read_pictures,
)
from nakt_fed.data.listing import labels
from nakt_fed.errors import DataError

BLACK = np.zeros((16, 16), np.uint8)


def put(path: Path, array: np.ndarray = BLACK) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def marked(rows: slice) -> np.ndarray:
    mask = BLACK.copy()
    mask[rows] = 255
    return mask


# ---- listing ----


def test_only_visible_pictures_are_listed_by_name(tmp_path):
    for name in ("b.PNG", "a.jpeg", "c.tif", "d.bmp", ".hidden.png"):
        put(tmp_path / name)
    for name in (".DS_Store", "selection.csv", "Thumbs.db", "notes.txt"):
        (tmp_path / name).write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.jpeg", "b.PNG", "c.tif", "d.bmp"]


def test_a_link_to_nothing_is_refused_and_not_passed_over(tmp_path):
    put(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert len(list_pictures(tmp_path)) == 2
    (tmp_path / "c.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"c.png is a link to a file that is not there; mend the link"):
        list_pictures(tmp_path)


def test_a_name_that_is_not_utf_8_is_refused(tmp_path):
    """As from an archive that was packed under Windows: the manifest, which is UTF-8, could not hold it."""
    try:
        put(tmp_path / "a.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/gr\xfcn.png"))
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(DataError, match=r"gr\\udcfcn.png' is not UTF-8; rename the file"):
        list_pictures(tmp_path)


def test_masks_beside_their_pictures_are_not_listed(tmp_path):
    for name in ("x.png", "x_mask.png", "x_mask_1.png", "lonely_mask.png", "x_masked.png"):
        put(tmp_path / name)
    assert [path.name for path in list_pictures(tmp_path)] == ["lonely_mask.png", "x.png", "x_masked.png"]


def test_labels_are_folder_names_or_the_parents(tmp_path):
    folders = [tmp_path / name for name in ("nerve/images", "skin", "other/nerve", "nerve-2", "third/nerve")]
    assert labels(folders) == ["nerve", "skin", "nerve-2", "nerve-2-2", "nerve-3"]


def test_a_relative_folder_has_a_label_too(tmp_path, monkeypatch):
    (tmp_path / "nerve/images").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "nerve/images")
    assert labels([Path()]) == ["nerve"]


def test_the_transferal_set_is_listed_folder_by_folder(tmp_path):
    for name in ("skin/images/b.png", "skin/images/a.png", "nerve/a.png"):
        put(tmp_path / name)
    found = list_transferal([tmp_path / "skin/images", tmp_path / "nerve"])
    assert [name for name, _ in found] == ["skin/a", "skin/b", "nerve/a"]
    assert [path.name for _, path in found] == ["a.png", "b.png", "a.png"]


def test_spaces_and_letters_beyond_ascii(tmp_path):
    folder = tmp_path / "Klinik Süd (Übung) 超音波"
    put(folder / "images" / unicodedata.normalize("NFD", "Schilddrüse 1.png"))  # as macOS writes it
    put(folder / "masks" / unicodedata.normalize("NFC", "Schilddrüse 1.png"), marked(slice(4, 8)))
    pictures = load_annotated(folder / "images", folder / "masks", 16)
    assert pictures.ids == ["Klinik Süd (Übung) 超音波/Schilddrüse 1"]
    assert pictures.masks.any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "missing is not there; check the path"),
        ("empty", r"empty has no picture \(\.bmp, .*\); put the pictures there"),
        ("file", "file is a file; give the folder"),
    ],
)
@pytest.mark.parametrize("load", [lambda folder: load_pictures([folder], 16), lambda f: load_annotated(f, f, 16)])
def test_a_folder_that_gives_no_picture_is_refused(tmp_path, load, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/selection.csv").touch()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=message):
        load(tmp_path / name)


def test_two_pictures_of_one_stem_are_refused(tmp_path):
    put(tmp_path / "x.png")
    put(tmp_path / "x.tif")
    with pytest.raises(DataError, match=r"x\.png and x\.tif would both be called 'x'; rename or remove"):
        load_pictures([tmp_path], 16)


# ---- pictures ----


def test_pictures_are_read_one_at_a_time(tmp_path):
    good, bad = put(tmp_path / "a.png", BLACK + 9), tmp_path / "b.png"
    bad.write_bytes(b"no picture")
    stream = read_pictures([good, bad], 8)
    np.testing.assert_array_equal(next(stream), np.full((8, 8), 9))
    with pytest.raises(DataError, match=r"b\.png cannot be read"):
        next(stream)


def test_load_pictures(tmp_path):
    put(tmp_path / "a/images/1.png", BLACK + 1)
    put(tmp_path / "b/2.png", np.full((40, 20, 3), 2, np.uint8))
    pictures = load_pictures([tmp_path / "a/images", tmp_path / "b"], 8)
    assert pictures.ids == ["a/1", "b/2"]
    assert pictures.masks is None
    np.testing.assert_array_equal(pictures.images, np.stack([np.full((8, 8), 1), np.full((8, 8), 2)]))


# ---- masks ----


@pytest.mark.parametrize("mask", ["x.png", "x.bmp", "x_mask.png", "x_mask_1.tif"])
def test_a_mask_is_found_by_its_name(tmp_path, mask):
    put(tmp_path / "images/x.jpg")
    put(tmp_path / "masks" / mask, marked(slice(0, 4)))
    put(tmp_path / "masks/of_no_picture.png", marked(slice(0, 16)))
    pictures = load_annotated(tmp_path / "images", tmp_path / "masks", 16)
    np.testing.assert_array_equal(pictures.masks, [marked(slice(0, 4))])


@pytest.mark.parametrize("masks", ["images", "masks"])
def test_several_masks_of_one_picture_are_united(tmp_path, masks):
    put(tmp_path / "images/benign (1).png")
    put(tmp_path / masks / "benign (1)_mask.png", marked(slice(0, 4)))
    put(tmp_path / masks / "benign (1)_mask_1.png", marked(slice(8, 10)))
    pictures = load_annotated(tmp_path / "images", tmp_path / masks, 16)
    assert pictures.ids == ["images/benign (1)"] or pictures.ids == [f"{tmp_path.name}/benign (1)"]
    np.testing.assert_array_equal(pictures.masks, [marked(slice(0, 4)) | marked(slice(8, 10))])


def test_a_picture_whose_own_name_ends_in_mask(tmp_path):
    put(tmp_path / "images/face_mask.png")
    put(tmp_path / "masks/face_mask.png", marked(slice(2, 3)))
    put(tmp_path / "masks/face.png", marked(slice(5, 6)))
    pictures = load_annotated(tmp_path / "images", tmp_path / "masks", 16)
    np.testing.assert_array_equal(pictures.masks, [marked(slice(2, 3))])


def test_a_picture_is_not_its_own_mask(tmp_path):
    put(tmp_path / "x.png")
    with pytest.raises(DataError, match="1 of 1 pictures have no mask"):
        load_annotated(tmp_path, tmp_path, 16)


def test_pictures_without_a_mask_are_counted_and_the_first_is_named(tmp_path):
    for name in ("a", "b", "c"):
        put(tmp_path / f"images/{name}.png")
    put(tmp_path / "masks/b.png")
    with pytest.raises(
        DataError, match=r"2 of 3 pictures have no mask in .*masks, the first is .*a\.png; add a\.png or a_mask"
    ):
        load_annotated(tmp_path / "images", tmp_path / "masks", 16)


def test_a_mask_of_another_size_is_refused(tmp_path):
    put(tmp_path / "images/x.png")
    put(tmp_path / "masks/x.png", np.zeros((32, 24), np.uint8))
    with pytest.raises(
        DataError, match=r"masks/x\.png has 24×32 pixels, but its picture .*images/x\.png has 16×16; export"
    ):
        load_annotated(tmp_path / "images", tmp_path / "masks", 16)


# ---- PictureSet ----


@pytest.mark.parametrize("convert", [np.asarray, zarr.array])
def test_subset_keeps_the_asked_order(convert):
    images = np.arange(5 * 8 * 8, dtype=np.uint8).reshape(5, 8, 8)
    pictures = PictureSet(list("abcde"), convert(images), convert(images)).subset([3, 0])
    assert len(pictures) == 2
    assert pictures.ids == ["d", "a"]
    np.testing.assert_array_equal(pictures.images, images[[3, 0]])
    np.testing.assert_array_equal(pictures.masks, images[[3, 0]])


def test_subset_without_masks_or_pictures():
    empty = PictureSet(["a"], np.zeros((1, 8, 8), np.uint8)).subset([])
    assert len(empty) == 0
    assert empty.images.shape == (0, 8, 8)
    assert empty.masks is None
