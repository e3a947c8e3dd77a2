import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nakt_fed import transferal
from nakt_fed.data.folders import load_annotated, load_pictures
from nakt_fed.data.pictures import content_hash
from nakt_fed.errors import DataError
from nakt_fed.shared_set import SharedSet, shared_test
from nakt_fed.study import Study
from nakt_fed.transferal import transferal_set
from nakt_fed.views import Viewed, ViewScheme
from tests.tiny import megabytes, tiny_study


def build(study: Study, folder: Path) -> SharedSet:
    folder.mkdir(exist_ok=True)
    return transferal_set(study, folder)


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_originals_first_then_views(folders: Path, tmp_path: Path, chunk: int) -> None:
    shared = build(
        tiny_study(folders, transferal={"views": 2, "mix": 0.5}, round={"chunk_mb": megabytes(chunk)}), tmp_path
    )
    organ = load_pictures([folders / "organ" / "images"], 32)
    viewed = Viewed(organ.ids, organ.images, ViewScheme(3, 2, 0.5))
    assert list(shared.manifest.ids) == viewed.ids
    assert shared.manifest.ids[:9:8] == ("organ/0000", "organ/0000~001")
    assert (len(shared.manifest), shared.manifest.originals) == (21, 7)
    np.testing.assert_array_equal(shared.images[:], viewed.pictures(range(21)))


def test_hashes_are_those_of_the_stored_pictures(folders: Path, tmp_path: Path) -> None:
    shared = build(tiny_study(folders), tmp_path)
    assert list(shared.manifest.hashes) == [content_hash(image) for image in np.asarray(shared.images[:])]


def test_without_views_there_are_the_originals(folders: Path, tmp_path: Path) -> None:
    shared = build(tiny_study(folders, transferal={"views": 0}), tmp_path)
    assert shared.manifest.views is None
    np.testing.assert_array_equal(shared.images[:], load_pictures([folders / "organ" / "images"], 32).images)


def test_the_same_study_gives_the_same_set(folders: Path, tmp_path: Path) -> None:
    first, second = (
        build(tiny_study(folders, round={"chunk_mb": megabytes(chunk)}), tmp_path / str(chunk)) for chunk in (3, 5)
    )
    assert first.manifest == second.manifest
    np.testing.assert_array_equal(first.images[:], second.images[:])


def test_another_seed_gives_other_views_of_the_same_originals(folders: Path, tmp_path: Path) -> None:
    first, second = (
        build(tiny_study(folders, study={"name": "tiny", "seed": seed, "image_size": 32}), tmp_path / str(seed))
        for seed in (1, 2)
    )
    assert first.manifest.hashes[:7] == second.manifest.hashes[:7]
    assert not set(first.manifest.hashes[7:]) & set(second.manifest.hashes[7:])


def test_views_read_from_disk_are_the_same(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Originals that do not fit in memory are read one by one while views are rendered."""
    here = build(tiny_study(folders), tmp_path / "memory")
    monkeypatch.setattr(transferal, "IN_MEMORY", 0)
    assert build(tiny_study(folders), tmp_path / "disk").manifest == here.manifest


def test_never_more_than_a_chunk_in_memory(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 7 originals and 21 views in chunks of 2, at most 2 are held, and one that is being made."""
    living: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    class Watched(np.ndarray):
        __hash__ = object.__hash__  # type: ignore[assignment]

    def watched(picture: np.ndarray) -> np.ndarray:
        nonlocal most
        again = picture.view(Watched)
        living.add(again)
        most = max(most, len(living))
        return again

    read, render = transferal.read_pictures, Viewed.picture

    def reading(paths: Any, size: int) -> Iterator[np.ndarray]:
        for picture in read(paths, size):
            yield watched(picture)
            del picture

    monkeypatch.setattr(transferal, "IN_MEMORY", 0)
    monkeypatch.setattr(transferal, "read_pictures", reading)
    monkeypatch.setattr(Viewed, "picture", lambda self, j: watched(render(self, j)))
    build(tiny_study(folders, transferal={"views": 3}, round={"chunk_mb": megabytes(2)}), tmp_path)
    assert 2 <= most <= 4


@pytest.fixture
def twins(folders: Path, tmp_path: Path) -> Path:
    """`organ` once more with a twin: `twin.png` has the pixels of `0003.png`, in another file format's bytes."""
    root = tmp_path / "pictures"
    shutil.copytree(folders, root)
    with Image.open(root / "organ" / "images" / "0003.png") as picture:
        picture.save(root / "organ" / "images" / "twin.bmp")
    return root


def test_twins_are_refused_with_both_names(twins: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'twin.bmp has the pixels of .*0003.png .*: 1.*duplicates = "drop"'):
        build(tiny_study(twins), tmp_path / "run")
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_twins_are_dropped_on_request(twins: Path, folders: Path, tmp_path: Path) -> None:
    shared = build(tiny_study(twins, transferal={"duplicates": "drop"}), tmp_path / "run")
    assert shared.manifest == build(tiny_study(folders), tmp_path / "without").manifest


def test_a_restart_finds_the_set_again(folders: Path, tmp_path: Path) -> None:
    root = shutil.copytree(folders, tmp_path / "pictures")
    study = tiny_study(root)
    before = build(study, tmp_path / "run")
    shutil.rmtree(root / "organ")
    again = build(study, tmp_path / "run")
    assert again.manifest == before.manifest
    np.testing.assert_array_equal(again.images[:], before.images[:])


def test_a_kill_before_the_manifest_builds_anew(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transferal, "save_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            build(tiny_study(folders), tmp_path / "run")
    half = build(tiny_study(folders), tmp_path / "run")
    whole = build(tiny_study(folders), tmp_path / "other")
    assert half.manifest == whole.manifest
    np.testing.assert_array_equal(half.images[:], whole.images[:])


def test_a_test_set_keeps_its_truth_at_the_coordinator(folders: Path, tmp_path: Path) -> None:
    pictures = load_annotated(folders / "outside" / "images", folders / "outside" / "masks", 32)
    shared = shared_test("outside", pictures, tmp_path / "outside", chunk=2)
    assert shared.name == "test-outside"
    assert list(shared.manifest.ids) == pictures.ids
    np.testing.assert_array_equal(shared.images[:], pictures.images)
    np.testing.assert_array_equal(shared.truth, pictures.masks)
    shared.masks.write("ann", 0, pictures.masks[:2])
    again = shared_test("outside", pictures, tmp_path / "outside", chunk=2)
    assert again.masks.missing("ann") == [1]


def test_a_test_set_that_has_changed_since_is_refused(folders: Path, tmp_path: Path) -> None:
    pictures = load_annotated(folders / "outside" / "images", folders / "outside" / "masks", 32)
    shared_test("outside", pictures, tmp_path / "outside", chunk=2)
    fewer = pictures.subset(range(1, len(pictures)))
    with pytest.raises(DataError, match="test set 'outside' are not those that this run has begun with"):
        shared_test("outside", fewer, tmp_path / "outside", chunk=2)
