"""Cores: what the affinity and a container's quota leave of the machine's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nakt_fed import cores as module
from nakt_fed.cores import cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_pinned_process_uses_the_cores_that_it_is_pinned_to() -> None:
    first = min(os.sched_getaffinity(0))
    pinned = f"import os; os.sched_setaffinity(0, {{{first}}}); from nakt_fed.cores import cores; print(cores())"
    assert subprocess.run([sys.executable, "-c", pinned], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize(
    ("quota", "expected"), [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None), ("?", None)]
)
def test_a_containers_quota_counts(
    quota: str, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = cores()
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(module, "QUOTA", tmp_path / "cpu.max")
    assert cores() == (expected or free)


def test_no_quota_where_there_is_no_such_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUOTA", tmp_path / "none")
    assert cores() >= 1
