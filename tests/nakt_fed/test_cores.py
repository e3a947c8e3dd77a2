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
    ("quota", "expected"),
    [("50000 100000", 1), ("100000 100000", 1), ("199000 100000", 1), ("max 100000", None), ("?", None)],
)
@pytest.mark.parametrize("where", ["", "system.slice", "system.slice/teacher.service"])
def test_the_quota_of_a_group_or_of_one_that_it_lies_in_counts(
    quota: str, expected: int | None, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "system.slice/teacher.service"
    own.mkdir(parents=True)
    monkeypatch.setattr(module, "_groups", lambda: [own, own.parent, tmp_path])
    free = cores()
    (tmp_path / where / "cpu.max").write_text(quota)
    assert cores() == (expected or free)


def test_the_groups_of_this_process_end_at_the_root() -> None:
    groups = module._groups()
    assert not groups or groups[-1] == module.GROUPS
    assert all(group.is_relative_to(module.GROUPS) for group in groups)
