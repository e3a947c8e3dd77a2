"""The app's bundle, by which sites know it."""

import os
from pathlib import Path

import pytest

from nakt_fed.app_folder import app_folder
from server.fab import built
from server.flower import bundle


@pytest.mark.slow
def test_the_bundle_is_the_same_bytes_wherever_and_whenever_it_is_made(tmp_path: Path) -> None:
    """Folder, time and modes of the files do not enter it."""
    fabs = []
    for name in ("first", "second folder"):
        (tmp_path / name).mkdir()
        app = bundle(tmp_path / name, app_folder())
        if fabs:
            for path in app.rglob("*.py"):
                os.utime(path, (10**9, 10**9))
                path.chmod(0o600)
        fabs.append(built(app, tmp_path / name))
    assert fabs[0] == fabs[1]
