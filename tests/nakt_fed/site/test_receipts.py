"""Receipts: whatever is done to the log is found, and a crash is not taken for more than it is."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nakt_fed.site.receipt_lines import head_file, sealed, to_bytes
from nakt_fed.site.receipts import Receipts, verify

COUNT = 6


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of six receipts, to be copied and damaged."""
    path = tmp_path_factory.mktemp("log") / "receipts.jsonl"
    for number in range(COUNT):
        Receipts(path).append("masks", "ok", b"asked", bytes([number]) * 9, run="run", manifest="ab", pictures=number)
    return path


@pytest.fixture
def log(written: Path, tmp_path: Path) -> Path:
    return copy(written, tmp_path)


def copy(written: Path, folder: Path) -> Path:
    for path in (written, head_file(written)):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / written.name


def change(path: Path, edit: Callable[[list[bytes]], Any]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    edit(lines)
    path.write_bytes(b"".join(lines))


def test_a_line_says_what_was_exchanged(log: Path) -> None:
    line = list(Receipts(log).lines())[2]
    assert (line["n"], line["kind"], line["outcome"], line["pictures"]) == (3, "masks", "ok", 2)
    assert (line["bytes_in"], line["bytes_out"]) == (5, 9)
    # printf asked | sha256sum
    assert line["sha256_in"] == "c66790da5943c4466dd80634deb63f4e19f07e7f81624f222b86fecf9fff6445"
    assert line["previous"] == list(Receipts(log).lines())[1]["hash"]


def test_an_untouched_log_has_no_fault(log: Path) -> None:
    assert verify(log) == []
    assert verify(log.parent / "none.jsonl") == []


@pytest.mark.parametrize("place", range(COUNT))
def test_a_missing_line_is_found(log: Path, place: int) -> None:
    change(log, lambda lines: lines.pop(place))
    assert verify(log)


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(COUNT)))
def test_any_other_order_is_found(written: Path, tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    log = copy(written, tmp_path_factory.mktemp("order"))
    change(log, lambda lines: lines.__setitem__(slice(None), [lines[i] for i in order]))
    assert bool(verify(log)) == (order != sorted(order))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_changed_byte_is_found(
    written: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    log = copy(written, tmp_path_factory.mktemp("byte"))
    text = bytearray(log.read_bytes())
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] ^= data.draw(st.integers(1, 255))
    log.write_bytes(text)
    assert verify(log)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_cut_end_is_found_also_after_the_next_receipt(
    written: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """All but the very last newline, which the next receipt puts back."""
    log = copy(written, tmp_path_factory.mktemp("cut"))
    text = log.read_bytes()
    kept = data.draw(st.integers(0, len(text) - 1))
    log.write_bytes(text[:kept])
    assert verify(log)
    Receipts(log).append("hello", "ok")
    assert bool(verify(log)) == (kept < len(text) - 1)


@pytest.mark.parametrize("field", ["time", "run", "pictures", "outcome", "sha256_out", "bytes_out"])
def test_a_line_that_was_sealed_anew_breaks_the_chain(log: Path, field: str) -> None:
    """Its own hash fits, but the next line has the old one."""

    def forge(lines: list[bytes]) -> None:
        old = {key: value for key, value in json.loads(lines[2]).items() if key not in ("n", "previous", "hash")}
        new = sealed({**old, field: 7}, 3, json.loads(lines[2])["previous"])
        lines[2] = to_bytes(new) + b"\n"

    change(log, forge)
    [fault] = verify(log)
    assert fault == "line 4 (receipt 4) does not follow receipt 3: lines are missing or in another order"


def test_faults_name_the_line(log: Path) -> None:
    change(log, lambda lines: lines.__setitem__(1, lines[1].replace(b'"ok"', b'"no"')))
    assert verify(log) == ["line 2 was changed or damaged: it does not fit its hash"]


def test_a_new_log_in_its_place_is_found(log: Path) -> None:
    log.unlink()
    [fault] = verify(log)
    assert "is not there" in fault
    Receipts(log).append("hello", "ok")
    assert any("had been cut" in fault for fault in verify(log))


def test_who_writes_both_files_anew_is_found_by_a_noted_hash(log: Path, tmp_path: Path) -> None:
    noted = [line["hash"] for line in Receipts(log).lines()]
    assert all(verify(log, one) == [] for one in noted)
    (tmp_path / "new").mkdir()
    other = tmp_path / "new" / log.name
    for _ in range(COUNT):
        Receipts(other).append("masks", "ok")
    assert verify(other) == []
    assert "noted" in verify(other, noted[-1])[0]


@pytest.mark.parametrize("written_bytes", [1, 40, 300])
def test_a_torn_write_is_marked_and_is_no_fault_later(log: Path, written_bytes: int) -> None:
    """A kill while line 7 is written: the head still names line 6."""
    line = to_bytes(sealed({"kind": "masks", "run": "x" * 200, "set": "y" * 200}, 7, "0" * 64))
    log.write_bytes(log.read_bytes() + line[:written_bytes])
    assert verify(log) == [f"line {COUNT + 1} is half written: a write was broken off, or the log was cut there"]
    after = Receipts(log).append("masks", "ok")
    assert after["n"] == COUNT + 2
    assert [line["outcome"] for line in Receipts(log).lines()][COUNT:] == ["torn", "ok"]
    assert verify(log) == []


def test_what_was_torn_cannot_be_changed_later(log: Path) -> None:
    log.write_bytes(log.read_bytes() + b'{"n": 7, "ti')
    Receipts(log).append("masks", "ok")
    log.write_bytes(log.read_bytes().replace(b'{"n": 7, "ti\n', b'{"n": 7, "xx\n'))
    assert verify(log) == [f"line {COUNT + 1} was changed or damaged: it does not fit its hash"]


def test_torn_twice_is_mended_too(log: Path) -> None:
    """The line that was to mend it was broken off as well."""
    log.write_bytes(log.read_bytes() + b'{"n": 7, "ti\n{"n": 7, "kind"')
    Receipts(log).append("masks", "ok")
    assert verify(log) == []


def test_a_head_that_is_one_line_late_is_no_fault(log: Path) -> None:
    """A kill between the line and the head."""
    head = head_file(log).read_bytes()
    Receipts(log).append("masks", "ok")
    head_file(log).write_bytes(head)
    assert verify(log) == []
    Receipts(log).append("masks", "ok")
    assert verify(log) == []


@pytest.mark.parametrize("head", [None, b"", b"[]", b'{"n": "x"}'])
def test_a_missing_head_is_told(log: Path, head: bytes | None) -> None:
    head_file(log).unlink() if head is None else head_file(log).write_bytes(head)
    assert "vouches for the end" in verify(log)[0]
    Receipts(log).append("masks", "ok")
    assert "its .head file was away" in verify(log)[0]


def test_several_writers_make_one_chain(tmp_path: Path) -> None:
    log = tmp_path / "receipts.jsonl"
    writers = [Receipts(log), Receipts(log), Receipts(log)]

    def write(receipts: Receipts) -> None:
        for _ in range(8):
            receipts.append("masks", "ok")

    threads = [Thread(target=write, args=(receipts,)) for receipts in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [line["n"] for line in Receipts(log).lines()] == list(range(1, 25))
    assert verify(log) == []


def test_a_strangers_words_stay_on_their_line_and_short(tmp_path: Path) -> None:
    log = tmp_path / "receipts.jsonl"
    Receipts(log).append("masks", "ok", run="a\nb\r\u2028" * 999, who="\ud800")
    Receipts(log).append("masks", "ok")
    assert verify(log) == []
    assert len(log.read_bytes()) < 6000
