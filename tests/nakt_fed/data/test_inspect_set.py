"""`nakt data inspect`: what a folder holds, what is wrong with it, and who is on both sides."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nakt_fed.data.imports.run import import_set
from nakt_fed.data.inspect_numbers import part_numbers
from nakt_fed.data.inspect_set import inspect_set
from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.data.twins import alike, near_pairs, picture_hash
from nakt_fed.errors import DataError
from tests.command import nakt
from tests.nakt_fed.data.imports.published import box, busbra, scene


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(synthetic_set(8, 48, seed=1, empty_share=0.25), tmp_path / "set")
    return tmp_path / "set"


def test_a_folder_without_a_manifest_is_counted(folder: Path) -> None:
    found = inspect_set(folder)
    [(name, pictures)] = found.parts.items()
    numbers = part_numbers(pictures)
    assert name == "all"
    assert (numbers["pictures"], numbers["with_mask"], numbers["empty_masks"]) == (8, 8, 2)
    assert numbers["width"] == [48] * 5
    assert numbers["sizes"] == 1
    masks = [np.asarray(Image.open(path)).mean() / 255 for path in sorted((folder / "masks").iterdir())]
    np.testing.assert_allclose(numbers["foreground"], np.percentile(masks, [0, 25, 50, 75, 100]), atol=1e-6)
    assert not found.faults


def test_pictures_with_their_masks_beside_them_count_too(tmp_path: Path) -> None:
    scene(1).save(tmp_path / "x.png")
    box().save(tmp_path / "x_mask.png")
    scene(2).save(tmp_path / "y.png")
    numbers = part_numbers(inspect_set(tmp_path).parts["all"])
    assert (numbers["pictures"], numbers["with_mask"]) == (2, 1)


def test_a_picture_in_two_parts_is_a_leak(folder: Path) -> None:
    (folder / "test/images").mkdir(parents=True)
    with Image.open(folder / "images/0003.png") as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((96, 96)).save(folder / "test/images/other.jpg")
    found = inspect_set(folder)
    assert found.across == [["test/other", "train/0003"]]
    outcome = nakt("data", "inspect", folder)
    assert outcome.code == 0
    assert "1 group in several parts" in outcome.out
    assert "test/other, train/0003" in outcome.out
    assert json.loads(nakt("data", "inspect", folder, "--json").out)["near_duplicates_across_parts"] == found.across


def test_what_changed_since_the_import_is_named(tmp_path: Path) -> None:
    busbra(tmp_path / "src")
    target = tmp_path / "dst"
    import_set("busbra", tmp_path / "src", target)
    assert inspect_set(target).faults == []
    first, second, third = sorted((target / "images").iterdir())[:3]
    scene(99).save(first)
    second.rename(target / "images/new.png")
    third.write_bytes(third.read_bytes()[:-100])
    outcome = nakt("data", "inspect", target)
    assert outcome.code == 1
    for words in (
        f"images/{first.name} has other bytes",
        f"images/{second.name} is in dataset.json but not there",
        "images/new.png is not in dataset.json",
        f"images/{third.name} cannot be read",
    ):
        assert words in outcome.out


def test_the_contact_sheet_stands_alone(folder: Path, tmp_path: Path) -> None:
    with Image.open(folder / "images/0001.png") as picture:
        picture.save(folder / "images/<b>again.png")
    sheet = tmp_path / "sheet.html"
    assert nakt("data", "inspect", folder, "--sheet", sheet).code == 0
    page = sheet.read_text(encoding="utf-8")
    assert page.count('<path class="seen"') >= 6  # outlines of the pictures with a target
    assert "data:image/jpeg" in page
    assert "1 groups of pictures look alike" in page
    assert "<b>again" not in page
    assert 'src="http' not in page


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        inspect_set(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file; give the folder"):
        inspect_set(tmp_path / "file")
    (tmp_path / "dataset.json").write_text('{"version": 7}')
    with pytest.raises(DataError, match=r"no manifest of version 1: .*import the set again"):
        inspect_set(tmp_path)


def test_a_changed_copy_is_alike_and_a_stranger_is_not() -> None:
    originals = [np.asarray(scene(number).resize((200, 160))) for number in range(20)]
    copies = [
        np.asarray(Image.fromarray(gray).resize((90, 72)).point(lambda value: min(255, int(1.2 * value))))[:, ::-1]
        for gray in originals
    ]
    names = [f"{kind}{number:02d}" for kind in "oc" for number in range(20)]
    pairs = near_pairs([picture_hash(np.ascontiguousarray(gray)) for gray in originals + copies])
    assert alike(names, pairs) == [[f"c{number:02d}", f"o{number:02d}"] for number in range(20)]


def test_pairs_are_those_of_the_plain_count() -> None:
    """Against counting bits one by one, over several blocks of rows."""
    table = np.random.default_rng(0).integers(0, 2**64, (70, 4), dtype=np.uint64)
    table[40:] = table[:30] ^ np.uint64(5)  # 8 bits differ
    bits = np.unpackbits(table.view(np.uint8), axis=1)
    flip = np.tile(np.arange(16) % 2, 16).astype(np.uint8)
    plain = {
        (i, j)
        for i in range(70)
        for j in range(i + 1, 70)
        if min((bits[i] ^ bits[j]).sum(), (bits[i] ^ bits[j] ^ flip).sum()) <= 48
    }
    assert set(map(tuple, near_pairs(table).tolist())) == plain
    assert len(plain) >= 30
