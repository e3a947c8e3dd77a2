"""A finished run that was moved away from everything it was made of."""

import shutil
from pathlib import Path

import pytest

from nakt_fed.resume import write_study
from tests.tiny import whole_study


@pytest.fixture(scope="module")
def run(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run, from which everything outside it is gone."""
    place = tmp_path_factory.mktemp("copy") / "run"
    shutil.copytree(whole, place)
    write_study(whole_study(Path("/nowhere")), place)
    return place
