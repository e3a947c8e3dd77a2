"""`nakt contributions` on a whole run: its numbers are the run's own, the page holds them, students are found again."""

import json
import re
import shutil
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from nakt_fed.contributions.gather import gathered
from nakt_fed.errors import RunError
from nakt_fed.replay.stored import StoredRun
from nakt_fed.resume import write_study
from tests.command import nakt
from tests.nakt_fed.test_schemas import validator
from tests.tiny import whole_study

pytestmark = pytest.mark.slow


@pytest.fixture
def run(whole: Path, folders: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    write_study(whole_study(folders), folder)
    return folder


def test_all_sites_are_the_runs_ensemble_and_one_alone_is_its_teacher(run: Path) -> None:
    found, dice = gathered(StoredRun(run)), json.loads((run / "results.json").read_text())["dice"]
    assert found["everyone"]["mean"] == pytest.approx(dice["ensemble"]["outside"]["mean"], abs=1e-6)
    for site in ("ann", "bob"):
        assert found["alone"][site]["per_set"]["outside"] == pytest.approx(
            dice[f"teacher:{site}"]["outside"]["mean"], abs=1e-6
        )
    a, b, both = found["alone"]["ann"]["mean"], found["alone"]["bob"]["mean"], found["everyone"]["mean"]
    assert found["leave_one_out"]["ann"]["mean"] == pytest.approx(both - b)
    assert found["shapley"]["ann"]["mean"] == pytest.approx((a + both - b) / 2)
    assert all(told["low"] <= told["mean"] <= told["high"] for told in found["shapley"].values())
    assert found["agreement"]["pictures"] == 7, "views are not counted twice"
    assert np.diag(found["agreement"]["dice"]) == pytest.approx([1, 1])


def test_the_command_writes_numbers_page_and_students(run: Path) -> None:
    done = nakt("contributions", run, "--students", "1", "--pictures", "16")
    assert [line for line in done.out.splitlines() if line.startswith("›")][:2] == [
        "› student of all sites",
        "› student without ann",
    ]
    assert (done.code, done.err) == (0, "")
    assert re.search(r"ann\s+\d+\.\d\s+[+−]?\d+\.\d\s+[+−]?\d+\.\d\s+[+−]?\d+\.\d", done.out)
    found = json.loads((run / "contributions.json").read_text())
    validator("contributions").validate(found)
    told = found["students"]
    assert (told["epochs"], told["pictures"]) == (1, 14)
    page = (run / "contributions.html").read_text()
    assert "Student, left out" in page
    assert "://" not in re.sub(r"http://www\.w3\.org/[\w/.]+", "", page)
    assert not re.findall(r">[^<]*\s-\d[^<]*<|>-\d[^<]*<", re.sub(r"(?s)<(svg|style).*?</\1>", "", page)), (
        "minus, no hyphen"
    )
    weights = sorted((run / "contributions").glob("*/student.safetensors"))
    assert [path.parent.name for path in weights] == ["everyone-1-14", "without-ann-1-14", "without-bob-1-14"]
    before = [path.stat().st_mtime_ns for path in weights]
    assert nakt("contributions", run, "--students", "1", "--pictures", "16").code == 0
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert json.loads((run / "contributions.json").read_text()) == found
    whole = fmean(found["students"]["everyone"]["per_set"].values())
    assert 0 <= whole <= 1


def test_a_run_without_test_sets_has_nothing_to_contribute_to(run: Path) -> None:
    stored = StoredRun(run)
    stored.__dict__["tests"] = {}
    with pytest.raises(RunError, match=r"has no test set, so there is no Dice to contribute to; add \[\[test\]\]"):
        gathered(stored)
