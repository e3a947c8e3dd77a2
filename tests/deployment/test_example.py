"""examples/three-hospitals/run, as a reader starts it: provision, TLS, three hospitals, approvals, a report at the end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.watch import started

ROOT = Path(__file__).parents[2]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_three_hospitals_in_one_command(tmp_path: Path) -> None:
    """And nothing of it is left running."""
    words: list[str | Path] = [
        sys.executable,
        ROOT / "examples" / "three-hospitals" / "run",
        tmp_path,
        "--image-size",
        "32",
        "--epochs",
        "1",
    ]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    [run] = (tmp_path / "runs").iterdir()
    results = json.loads((run / "results.json").read_text())
    assert (run / "report.html").exists()
    assert set(results["at_sites"]) == set(results["weights"]) == {"busi", "logiq7", "logiq5"}
    assert done.stdout.count("all as written") == 3
    for kept in (tmp_path / "kits").rglob("*.key"):
        assert kept.stat().st_mode & 0o077 == 0, kept
    assert started() == set()
