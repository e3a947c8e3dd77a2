"""`nakt site` on what a site or a run has kept: approvals and receipts."""

from pathlib import Path

import pytest

from nakt_fed.site.receipts import FILE, Receipts
from nakt_fed.site.site_file import load_site
from tests.command import nakt
from tests.nakt_fed.site.kit import write_site


@pytest.mark.parametrize("run", ["", "a\nb"])
def test_what_no_run_is_called_is_not_approved(tmp_path: Path, run: str) -> None:
    site = write_site(tmp_path)
    done = nakt("site", "approve", site, run)
    assert (done.code, done.out) == (1, "")
    assert "is no run's name; `nakt site approvals` lists" in done.err
    assert nakt("site", "approvals", site).out == "0 runs waiting, 0 approved\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("approved", '{"run": "2026-11-23"}', "'run' is no table with time; restore"),
        ("waiting", '{"run": {"set": "t"}}', "'run' is no table with coordinator, pictures, set, asked; restore"),
        ("approved", "[1]", "no JSON object; restore"),
    ],
)
def test_approvals_that_somebody_has_edited_are_told(tmp_path: Path, name: str, content: str, words: str) -> None:
    site = write_site(tmp_path)
    file = load_site(site).site.folder / "gate" / f"{name}.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    done = nakt("site", "approvals", site)
    assert (done.code, done.out) == (1, "")
    assert f"{file} is damaged: {words} it from a backup, or remove it" in done.err


@pytest.mark.parametrize("what", ["verify", "show"])
@pytest.mark.parametrize("side", ["site", "coordinator"])
def test_a_folder_without_a_log_is_not_taken_for_one_without_receipts(tmp_path: Path, side: str, what: str) -> None:
    done = nakt(side, "receipts", what, tmp_path)
    assert (done.code, done.err) == (
        1,
        f"error: {tmp_path} is no run and holds no receipts.jsonl; give a site file, or the folder of a run\n",
    )
    gone = nakt(side, "receipts", what, tmp_path / "gone")
    assert gone.err == f"error: {tmp_path / 'gone'} is not there; give a site file, or the folder of a run\n"


def test_a_site_before_its_first_receipt_and_after(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    own = load_site(site).site.folder
    for what in ("verify", "show"):
        assert nakt("site", "receipts", what, site).out == "no receipts yet\n"
    Receipts(own / FILE).append("masks", "ok", run="run")
    for where in (site, own):
        assert nakt("site", "receipts", "verify", where).out.startswith("1 receipt, all as written")
    (own / FILE).unlink()
    assert "is not there, although receipts were written" in nakt("site", "receipts", "verify", own).err
    assert nakt("site", "receipts", "verify", own).code == 1


def test_a_damaged_log_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    log = load_site(site).site.folder / FILE
    log.parent.mkdir()
    log.write_text('{"n": 1}\n')
    done = nakt("site", "receipts", "show", site)
    assert (done.code, done.out) == (1, "")
    assert f"no line of {log} is a receipt as it was written; `nakt site receipts verify` says" in done.err


def test_a_supernode_without_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would show Python's own words; a folder that is only missing is made."""
    monkeypatch.setattr("os.execv", lambda *words: None)
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "new" / "home"))
    assert nakt("site", "supernode", "teacher.sock").code == 0
    assert (tmp_path / "new" / "home").is_dir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "file"))
    done = nakt("site", "supernode", "teacher.sock")
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert str(tmp_path / "file") in done.err
