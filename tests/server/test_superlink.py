"""The SuperLink of a deployment is Flower's own, with small caches."""

import subprocess
import sys
from pathlib import Path

import pytest

CACHES = """
import sys
from pathlib import Path
from flwr.supercore.object_store.sql_object_store import SqlObjectStore
from server.superlink import small_caches

small_caches()
store = SqlObjectStore(sys.argv[1])
store.initialize()
print([store.query(f"PRAGMA {name}")[0][name] for name in ("cache_size", "mmap_size", "journal_mode")])
"""


@pytest.mark.slow
def test_every_connection_of_the_database_has_small_caches(tmp_path: Path) -> None:
    """In a process of its own, because it changes Flower's settings. The others of them stay, such as the journal."""
    said = subprocess.check_output([sys.executable, "-c", CACHES, str(tmp_path / "state.db")], text=True)

    assert said.split("\n")[-2] == "[-2000, 0, 'wal']"
