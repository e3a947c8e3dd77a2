"""Files that are whole or not there."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nakt_fed.whole_file import draft_of, write_csv, write_json, write_whole


def test_content_comes_back(tmp_path: Path) -> None:
    assert write_whole(tmp_path / "a", b"\x00\xff").read_bytes() == b"\x00\xff"
    assert write_whole(tmp_path / "a", "Grüße").read_text("utf-8") == "Grüße"
    assert json.loads(write_json(tmp_path / "b.json", {"ö": [1.5, None]}).read_text("utf-8")) == {"ö": [1.5, None]}
    with write_csv(tmp_path / "c.csv", ["a", "b"], [[1, "x,y"], [2, ""]]).open(newline="") as file:
        assert list(csv.reader(file)) == [["a", "b"], ["1", "x,y"], ["2", ""]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b.json", "c.csv"]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a", "old")

    def broken() -> None:
        with draft_of(path) as draft:
            draft.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_killed_while_it_writes_leaves_the_old_file_and_a_draft_that_the_next_one_removes(
    tmp_path: Path,
) -> None:
    path = write_whole(tmp_path / "a", "old")
    code = f"""
import os, signal
from pathlib import Path
from nakt_fed.whole_file import draft_of
with draft_of(Path({str(path)!r})) as draft:
    draft.write_text("half of the ne")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    [left] = [each for each in tmp_path.iterdir() if each != path]
    assert left.name.endswith(".part")
    of_another = write_whole(tmp_path / ".b.1.part", "being written by a process that lives")
    assert write_whole(path, "new").read_text() == "new"
    write_whole(tmp_path / "b", "b")
    assert sorted(tmp_path.iterdir()) == [of_another, path, tmp_path / "b"]
