import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nakt_fed.exchange import Reply, Request
from nakt_fed.site.cache import Cached

A, B, C = ("0" * 63 + digit for digit in "abc")


class Teacher:
    """Answers masks with `weight` bytes; every answer is new."""

    def __init__(self, weight: int = 100, ok: bool = True) -> None:
        self.weight, self.ok, self.asked = weight, ok, 0

    def handle(self, request: Request) -> Reply:
        self.asked += 1
        meta = {"manifest": request.meta.get("manifest"), "range": request.meta.get("range")}
        return Reply(self.ok, meta, bytes([self.asked % 256]) * self.weight)


def masks(manifest: object = A, start: object = 0, **meta: object) -> Request:
    return Request("masks", {"set": "transferal", "manifest": manifest, "range": [start, 8], "near": 0, **meta})


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_was_answered_is_not_asked_again_after_a_restart_either(tmp_path: Path) -> None:
    teacher = Teacher()
    first = Cached(teacher, tmp_path).handle(masks())
    assert Cached(teacher, tmp_path).handle(masks()) == first
    assert teacher.asked == 1


def test_near_defaults_to_0_as_in_the_service(tmp_path: Path) -> None:
    teacher = Teacher()
    cached = Cached(teacher, tmp_path)
    cached.handle(masks())
    cached.handle(Request("masks", {"manifest": A, "range": [0, 8]}))
    assert teacher.asked == 1


@pytest.mark.parametrize("other", [masks(B), masks(start=1), masks(near=1), masks(range=[0, 7])])
def test_another_manifest_range_or_bound_is_another_answer(tmp_path: Path, other: Request) -> None:
    teacher = Teacher()
    cached = Cached(teacher, tmp_path)
    assert cached.handle(masks()) != cached.handle(other)
    assert teacher.asked == 2


def test_a_new_teacher_does_not_give_the_old_ones_answers(tmp_path: Path) -> None:
    old = Cached(Teacher(), tmp_path, "old weights").handle(masks())
    teacher = Teacher(weight=50)
    assert Cached(teacher, tmp_path, "new weights").handle(masks()) != old
    assert Cached(Teacher(), tmp_path, "old weights").handle(masks()) == old


def test_a_refusal_is_not_kept(tmp_path: Path) -> None:
    teacher = Teacher(ok=False)
    cached = Cached(teacher, tmp_path)
    cached.handle(masks())
    cached.handle(masks())
    assert teacher.asked == 2
    assert on_disk(tmp_path) == 0


@pytest.mark.parametrize(
    "request_",
    [
        Request("hello"),
        Request("masks"),
        masks("../../" + A),
        masks(A + "\n"),
        masks(["a"]),
        masks(range="0-8"),
        masks(start=0.0),
        masks(start=True),
        masks(start=-1),
        masks(start=10**40),
        masks(near="../1"),
    ],
)
def test_whatever_is_no_clear_request_for_masks_goes_through(tmp_path: Path, request_: Request) -> None:
    """What comes from outside never becomes a path."""
    teacher = Teacher()
    cached = Cached(teacher, tmp_path / "cache")
    for _ in range(2):
        cached.handle(request_)
    assert teacher.asked == 2
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:-1] + b"\xff"])
def test_a_damaged_file_is_asked_again_and_mended(tmp_path: Path, damage: object) -> None:
    teacher = Teacher()
    cached = Cached(teacher, tmp_path)
    cached.handle(masks())
    (path,) = tmp_path.glob("*/*")
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    again = cached.handle(masks())
    assert teacher.asked == 2
    assert cached.handle(masks()) == again
    assert cached.size <= 2 * on_disk(tmp_path)


def test_a_full_disk_does_not_spoil_a_good_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert Cached(Teacher(), tmp_path).handle(masks()).ok
    assert on_disk(tmp_path) == 0


def test_the_manifest_that_is_longest_without_an_answer_is_dropped_first(tmp_path: Path) -> None:
    """Room for 5 answers of about 1,250 bytes: the sixth displaces the two of A, which are older than B's."""
    teacher = Teacher(weight=1100)
    cached = Cached(teacher, tmp_path, limit=6500)
    for age, (manifest, count) in enumerate({A: 2, B: 3}.items()):
        for start in range(count):
            cached.handle(masks(manifest, start))
        (folder,) = tmp_path.glob(f"{manifest}-*")
        os.utime(folder, (age, age))
    cached.handle(masks(C))
    assert {path.name[:64] for path in tmp_path.iterdir()} == {B, C}
    assert len(list(tmp_path.glob("*/*"))) == 4


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 5)), max_size=30), st.integers(300, 3000))
def test_the_limit_holds_and_every_answer_is_one_the_teacher_gave(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[str, int]], limit: int
) -> None:
    folder, teacher, given_before = tmp_path_factory.mktemp("cache"), Teacher(), {}
    cached = Cached(teacher, folder, limit=limit)
    for manifest, start in asked:
        before = teacher.asked
        reply = cached.handle(masks(manifest, start))
        if teacher.asked == before:
            assert reply == given_before[manifest, start]
        given_before[manifest, start] = reply
        assert on_disk(folder) == cached.size <= limit
