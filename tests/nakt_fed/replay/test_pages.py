"""The pages of a sweep: the same test pictures under every scheme, nothing for a single cell."""

import json
import shutil
from pathlib import Path

import pytest

from nakt_fed.replay.fuse import fuse_again
from nakt_fed.replay.pages import write_pages
from nakt_fed.replay.stored import StoredRun
from nakt_fed.resume import write_study
from nakt_fed.study.tables import FusionSpec
from tests.tiny import whole_study


@pytest.fixture(scope="module")
def run(whole: Path, folders: Path, tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    folder = Path(shutil.copytree(whole, tmp_path_factory.mktemp("pages") / "run"))
    write_study(whole_study(folders), folder)
    return StoredRun(folder)


def test_masks_and_students_get_a_page_each(run: StoredRun, tmp_path: Path) -> None:
    rows, fused = [], {}
    for name in ("uniform", "majority"):
        fuse_again(run, FusionSpec(weighting=name), tmp_path / name)
        per_image = json.loads((tmp_path / name / "fusion.json").read_text())["per_image"]
        for student, cell in (("none", name), ("study", f"{name} study")):
            settings = {"weighting": name, "student": student}
            rows.append(
                {"cell": cell, "settings": settings, "seed": 3, "per_image": per_image, "kept": 9, "seconds": 1}
            )
            fused[cell] = tmp_path / name
    pages = write_pages(run, rows, fused, tmp_path)
    assert [str(page.relative_to(tmp_path)) for page in pages] == ["masks/sweep.html", "students/sweep.html"]
    masks, students = (page.read_text() for page in pages)
    assert masks.count('aria-label="Mask under majority"') == 3, "all three test pictures"
    assert "outside: " in masks
    assert "Mask under" not in students
    assert write_pages(run, rows[:2], fused, tmp_path) == [], "one cell of each kind is not compared"
