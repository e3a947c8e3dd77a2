"""What cannot be imported is refused with file and remedy, and nothing half-done stays."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from nakt_fed.cli.data import KINDS as OFFERED
from nakt_fed.data.imports.kinds import KINDS
from nakt_fed.data.imports.run import import_set
from nakt_fed.errors import DataError
from tests.command import nakt
from tests.nakt_fed.data.imports.published import LAYOUTS, box, busbra, busi


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return busi(tmp_path / "source")


def refused(kind: str, source: Path, target: Path, words: str) -> None:
    with pytest.raises(DataError, match=words):
        import_set(kind, source, target)
    assert not [path for path in target.parent.iterdir() if path.name.endswith(".part")]


def test_the_cli_offers_the_table() -> None:
    assert list(OFFERED) == list(KINDS)


def test_a_missing_folder_says_what_was_expected(tmp_path: Path) -> None:
    refused("busi", tmp_path / "gone", tmp_path / "dst", r"gone is not there; .*benign/ and malignant/")


@pytest.mark.parametrize("kind", LAYOUTS)
def test_another_layout_is_recognised(kind: str, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    LAYOUTS[kind](tmp_path / "src")
    other = "busi" if kind != "busi" else "voc2012"
    refused(
        other,
        tmp_path / "src",
        tmp_path / "dst",
        rf"expected .*; it looks like the kind {kind}: nakt data import {kind}",
    )


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "x.zip").touch()
    refused("busi", tmp_path / "x.zip", tmp_path / "dst", "unpack it")


def test_nothing_is_overwritten(source: Path, tmp_path: Path) -> None:
    (tmp_path / "dst").mkdir()
    (tmp_path / "dst/mine.txt").write_text("keep")
    refused("busi", source, tmp_path / "dst", "is not empty")
    assert (tmp_path / "dst/mine.txt").read_text() == "keep"


def break_truncated(root: Path) -> None:
    path = root / "benign/benign (3).png"
    path.write_bytes(path.read_bytes()[:-200])


def break_size(root: Path) -> None:
    box().crop((0, 0, 30, 30)).save(root / "benign/benign (3)_mask.png")


def break_mask(root: Path) -> None:
    (root / "benign/benign (3)_mask.png").unlink()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (break_truncated, "cannot be read as PNG"),
        (break_size, "has 30×30 pixels, but its picture .* has 40×32"),
        (break_mask, "has no mask"),
    ],
)
def test_a_fault_stops_the_import_or_is_listed(fault, words: str, source: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    fault(source / "Dataset_BUSI_with_GT")
    refused("busi", source, tmp_path / "dst", rf"(?s)1 of 10 files cannot be used; .*--skip-damaged.*{words}")
    assert not (tmp_path / "dst").exists()
    manifest = import_set("busi", source, tmp_path / "dst", skip_damaged=True)
    assert len(manifest.pictures) == 9
    assert [found.source for found in manifest.faults] == ["benign/benign (3).png"]
    assert str(tmp_path) not in manifest.faults[0].reason
    assert not list((tmp_path / "dst").rglob("benign_0003*"))


def test_two_files_of_one_name_are_refused(source: Path, tmp_path: Path) -> None:
    root = source / "Dataset_BUSI_with_GT/benign"
    shutil.copy(root / "benign (1).png", root / "benign (01).png")
    refused("busi", source, tmp_path / "dst", "2 files .* would be called 'benign_0001'")


def test_a_table_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    root = busbra(tmp_path / "src") / "BUSBRA"
    table = root / "bus_data.csv"
    table.write_text(table.read_text().replace("bus_0001-l", "../../../evil", 1))
    Image.new("L", (40, 32)).save(tmp_path / "evil.png")
    refused("busbra", tmp_path / "src", tmp_path / "dst", "1 of 8 files cannot be used")
    table.write_text(table.read_text().replace("ID,Case", "ID,Patient"))
    refused("busbra", tmp_path / "src", tmp_path / "dst", "has no column 'Case'")


def test_what_a_killed_import_left_behind_is_cleared(source: Path, tmp_path: Path) -> None:
    left = tmp_path / ".dst.part/images"
    left.mkdir(parents=True)
    (left / "stale.png").touch()
    import_set("busi", source, tmp_path / "dst")
    assert not (tmp_path / ".dst.part").exists()
    assert not list((tmp_path / "dst").rglob("stale.png"))


def test_ctrl_c_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_set("busi", source, tmp_path / "dst", on_file=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_the_command_says_what_was_done(source: Path, tmp_path: Path) -> None:
    outcome = nakt("data", "import", "busi", source, tmp_path / "dst", "--test-share", "0.3")
    assert outcome.code == 0, outcome.err
    for words in (
        "busi       10 pictures: 7 in images/, 3 held out in test/",
        "left out   2 files of the class normal",
        "alike      2 near-duplicates in 1 group",
        "1 group of them with different classes",
        "licence    open access",
        "cite       W. Al-Dhabyani",
    ):
        assert words in outcome.out
    assert nakt("data", "import", "busi", source, tmp_path / "dst").err.startswith("error: ")
