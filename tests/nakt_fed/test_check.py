"""`nakt check`: what it prints, and how long it says a study will take."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from nakt_fed import estimate
from nakt_fed.estimate import START_SECONDS, estimate_seconds
from nakt_fed.study import Study
from nakt_fed.study.summary import SiteSummary, StudySummary
from tests.command import nakt, study_file, write_teachers
from tests.tiny import tiny_study


@pytest.fixture
def place(folders: Path, tmp_path: Path) -> Path:
    place = Path(shutil.copytree(folders, tmp_path / "study"))
    write_teachers(place)
    return place


def test_check_prints_sites_pictures_bytes_and_time(place: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["site"][0].update(test_share=0.25, teacher={"network": "unet", "width": 2})
        raw["fine_tune"] = {"images": "few/images", "masks": "few/masks", "at_sites": True}

    outcome = nakt("check", study_file(place, change))
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[:3] == [
        "study      tiny, 32×32 pixels, seed 0",
        "site       ann: unet, trained on 5 pictures, 1 for validation, 2 held out as test set",
        "site       bob: unet, from its checkpoint",
    ]
    assert "transferal 7 pictures and 7 views of them: 14 answers from each site" in lines
    assert lines[4].startswith("bytes      per site about ")
    assert "kB of pictures out, 3.6 kB of masks back (at 2 bits per pixel" in lines[4]  # 14 · 32² · 2 / 8 = 3584
    assert "weighting  uniform, from sums over the sites" in lines
    assert "filter     ≥ 0 target pixels at 384×384, entropy ≤ 8 bits; at least 2 pictures must remain" in lines
    assert "student    unet, 1 epoch, 1 Ray Train worker" in lines
    place_of = lines.index("fine-tune  on 4 annotated pictures")
    assert lines[place_of + 1] == "fine-tune  at the sites that allow it, on their own pictures"
    assert lines[place_of + 2].startswith("!          ann: fewer than 10 pictures are held out there")
    assert lines[-4:-2] == ["test set   ann: 2 pictures", "test set   outside: 3 pictures"]
    assert lines[-2].startswith("time       about ")
    assert "on this machine (start of Flower and Ray 35 s, teachers " in lines[-2]
    assert lines[-1] == "the study can be run"
    assert sorted(path.name for path in place.iterdir() if path.is_dir()) == ["ann", "bob", "few", "organ", "outside"]


def test_a_study_for_a_deployment_is_checked_for_what_the_coordinator_has(place: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["site"] = [{"name": "ann"}, {"name": "bob"}]

    lines = nakt("check", study_file(place, change)).out.splitlines()
    assert lines[1:3] == ["site       ann: in its own site file", "site       bob: in its own site file"]
    assert "test set   outside: 3 pictures" in lines
    assert not any(line.startswith("time") for line in lines)
    assert lines[-1] == "the study can be run"


def test_check_without_views_and_filter(place: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["transferal"]["views"] = 0
        raw["filter"]["enabled"] = False

    lines = nakt("check", study_file(place, change), "--no-time").out.splitlines()
    assert "transferal 7 pictures: 7 answers from each site" in lines
    assert "filter     off" in lines
    assert not any(line.startswith("time") for line in lines)


def counted(study: Study, **more: Any) -> StudySummary:
    """7 pictures and 14 views; 10 training pictures at each site; a test set of 3."""
    sites = [SiteSummary(name, "unet", 10, 1, 0, False) for name in study.site_names]
    fields = {"originals": 7, "views": 14, "bytes_out": 0, "bytes_back": 0, "tests": {"outside": 3}, "fine_tune": 0}
    return StudySummary(sites, **{**fields, "faults": {}, **more})


def test_the_estimate_multiplies_what_it_has_timed(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step and a batch of answers take a second each: 4 pictures of a step, 8 of a batch; 2 epochs everywhere."""
    monkeypatch.setattr(estimate, "_timed", lambda work: 1.0)
    monkeypatch.setattr(estimate, "cores", lambda: 4)
    study = tiny_study(folders)
    assert estimate_seconds(study, counted(study)) == {
        "start of Flower and Ray": START_SECONDS,
        "teachers": 2 * 10 * 2 / 4,
        "masks": 2 * (21 + 3) / 8,
        "student": 21 * 2 / 4,
    }
    together = tiny_study(
        folders, resources={"sites_at_once": 8}, fine_tune={"images": "few/images", "masks": "few/masks"}
    )
    seconds = estimate_seconds(together, counted(together, fine_tune=8))
    assert seconds["teachers"] == 2 * 10 * 2 / 4 / 2, "two sites at once, for there are only two"
    assert seconds["fine-tuning"] == 8 * 50 / 8
    wide = tiny_study(folders, resources={"sites_at_once": 8, "site_threads": 4})
    assert estimate_seconds(wide, counted(wide))["teachers"] == 2 * 10 * 2 / 4, (
        "4 threads for one site take all 4 cores"
    )


def test_a_site_that_will_be_set_aside_takes_no_time(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_timed", lambda work: 1.0)
    study = tiny_study(folders)
    assert estimate_seconds(study, counted(study, faults={"ann": "ann: no"}))["teachers"] == 10 * 2 / 4
