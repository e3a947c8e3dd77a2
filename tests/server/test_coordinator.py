"""The coordinator's own files."""

import stat
import subprocess
import sys
from pathlib import Path

from server.coordinator import make_secret

NO_ROOM = """
import resource, sys
from pathlib import Path
from server.coordinator import make_secret
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # every byte is one too many, as on a full disk
make_secret(Path(sys.argv[1]))
"""


def test_a_full_disk_leaves_no_empty_secret(tmp_path: Path) -> None:
    path = tmp_path / "superexec.secret"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", NO_ROOM, str(path)], cwd=root, capture_output=True, text=True, check=False
    )
    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []
    make_secret(path)
    first = path.read_text()
    assert len(first) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    make_secret(path)
    assert path.read_text() == first
