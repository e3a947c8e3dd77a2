"""What the tests of trainings on a real Ray share."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nakt_fed.student import StudentJob
from tests.watch import command, started


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process and no file of a training outlives its test."""
    for name in ("RAY_ADDRESS", "NAKT_RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    folder = tempfile.mkdtemp(prefix="nt", dir="/tmp")
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)
    yield
    assert not started()
    assert not list(Path(folder).glob("nakt-*"))
    shutil.rmtree(folder)


def find(part: str) -> list[int]:
    """Processes that this one has started, directly or not, by their command line."""
    return [pid for pid in started() if part in command(pid)]


STARTER = """
import sys
from pathlib import Path
from nakt_fed.student import StudentJob
from server.student import fit_student
fit_student(StudentJob.model_validate_json(Path(sys.argv[1]).read_text()))
"""


def starter(job: StudentJob, *before: str, code: str = STARTER) -> list[str]:
    """A program of its own that calls `fit_student`."""
    path = job.events.parent / "job.json"
    path.write_text(job.model_dump_json())
    return [*before, sys.executable, "-c", code, str(path)]
