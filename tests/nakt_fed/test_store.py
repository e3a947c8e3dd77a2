from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from nakt_fed.errors import RunError
from nakt_fed.store import ChunkStore, PseudoSet, open_group


def masks(count: int, start: int = 0, size: int = 4) -> np.ndarray:
    """Every picture has a level of its own."""
    return np.repeat(np.arange(start + 1, start + count + 1, dtype=np.uint8), size * size).reshape(count, size, size)


def store_in(folder: Path, count: int = 7, chunk: int = 3) -> ChunkStore:
    return ChunkStore(folder / "masks.zarr", count, 4, chunk)


@given(st.integers(1, 12), st.integers(1, 15))
@settings(max_examples=30, deadline=None)
def test_chunks_cover_every_picture_once(count: int, chunk: int) -> None:
    store = ChunkStore.__new__(ChunkStore)
    store.count, store.chunk = count, chunk
    assert [row for rows in store.chunks for row in rows] == list(range(count))
    assert [len(rows) for rows in store.chunks[:-1]] == [chunk] * (len(store.chunks) - 1)


def test_nothing_is_done_at_first(tmp_path: Path) -> None:
    assert store_in(tmp_path).missing("ann") == [0, 1, 2]


def test_written_chunks_are_marked_and_come_back(tmp_path: Path) -> None:
    """7 pictures in chunks of 3: the last chunk has one picture."""
    store = store_in(tmp_path)
    store.write("ann", 1, masks(3, 3))
    assert store.missing("ann") == [0, 2]
    store.write("ann", 2, masks(1, 6))
    store.write("ann", 0, masks(3))
    assert store.missing("ann") == []
    np.testing.assert_array_equal(store.read("ann", 1), masks(3, 3))
    np.testing.assert_array_equal(store.read("ann", 2), masks(1, 6))
    np.testing.assert_array_equal(store.all("ann"), masks(7))


@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
def test_everything_at_once_in_any_chunk_size(tmp_path: Path, chunk: int) -> None:
    store = store_in(tmp_path, chunk=chunk)
    store.write_all("ensemble", masks(7))
    assert store.missing("ensemble") == []
    np.testing.assert_array_equal(store.all("ensemble"), masks(7))


def test_names_do_not_touch_each_other(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write("ann", 0, masks(3))
    store.write("bob", 0, masks(3, 9))
    assert store.missing("cleo") == [0, 1, 2]
    np.testing.assert_array_equal(store.read("ann", 0), masks(3))
    np.testing.assert_array_equal(store.read("bob", 0), masks(3, 9))


def test_another_process_finds_what_was_written(tmp_path: Path) -> None:
    store_in(tmp_path).write("ann", 0, masks(3))
    again = store_in(tmp_path)
    assert again.missing("ann") == [1, 2]
    np.testing.assert_array_equal(again.read("ann", 0), masks(3))


def test_the_layout_that_other_tools_read(tmp_path: Path) -> None:
    store_in(tmp_path).write("ann", 0, masks(3))
    group: Any = zarr.open_group(tmp_path / "masks.zarr", mode="r")
    assert (group["masks/ann"].shape, group["masks/ann"].dtype) == ((7, 4, 4), np.uint8)
    assert group["masks_done/ann"][:].tolist() == [True] * 3 + [False] * 4


class Killed(BaseException):
    pass


def killed(*_: object) -> Any:
    raise Killed


class Full:
    """An array on a full disk."""

    def __setitem__(self, place: object, value: object) -> None:
        raise OSError(28, "No space left on device")


def test_a_kill_before_the_mark_asks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ChunkStore, "_done", killed)
        with pytest.raises(Killed):
            store.write("ann", 1, masks(3, 3))
    assert store_in(tmp_path).missing("ann") == [0, 1, 2]
    store_in(tmp_path).write("ann", 1, masks(3, 3))
    assert store_in(tmp_path).missing("ann") == [0, 2]


def test_a_full_disk_marks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ChunkStore, "stack", lambda *_: Full())
        with pytest.raises(OSError, match="No space left"):
            store.write("ann", 1, masks(3, 3))
    assert store_in(tmp_path).missing("ann") == [0, 1, 2]


def test_what_is_no_group_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no zarr group that can be read"):
        open_group(tmp_path / "nowhere.zarr")
    (tmp_path / "file").write_text("text")
    with pytest.raises(RunError, match="is no zarr group that can be read"):
        open_group(tmp_path / "file")


@given(st.lists(st.integers(0, 5), max_size=5), st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_pseudo_set_takes_portions_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, portions: list[int], chunk: int
) -> None:
    path, count = tmp_path_factory.mktemp("set") / "pseudo.zarr", sum(portions)
    images, soft = masks(count), masks(count, 100)
    out = PseudoSet(path, 4, chunk, [f"organ/{i}" for i in range(count)])
    start = 0
    for portion in portions:
        out.add(images[start : start + portion], soft[start : start + portion])
        start += portion
    assert "complete" not in open_group(path).attrs, "a kill before the end leaves no mark"
    out.close("made of this")
    group: Any = open_group(path)
    np.testing.assert_array_equal(group["images"][:], images)
    np.testing.assert_array_equal(group["masks"][:], soft)
    assert group.attrs["ids"] == [f"organ/{i}" for i in range(count)]
    assert group.attrs["complete"] == "made of this"


def test_a_new_pseudo_set_forgets_the_old_mark(tmp_path: Path) -> None:
    PseudoSet(tmp_path / "pseudo.zarr", 4, 2, []).close("old")
    PseudoSet(tmp_path / "pseudo.zarr", 4, 2, ["organ/1"])
    assert "complete" not in open_group(tmp_path / "pseudo.zarr").attrs
