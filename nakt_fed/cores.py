"""How many cores this process may use: threads beyond them wait for each other, which makes a training several times slower."""

import os
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
"""Of cgroup v2. A group's `cpu.max` holds "max 100000", or microseconds of work per period: a container's or a systemd unit's limit."""


def cores() -> int:
    """Those that its affinity names (taskset, Slurm, cpusets), and no more than the quota of its control groups; at least one."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([here, *(_quota(folder / "cpu.max", here) for folder in _groups())]))


def _groups() -> list[Path]:
    """This process's group and those that it lies in; in a container only what the container sees."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = GROUPS / own.lstrip("/")
    return [each for each in (folder, *folder.parents) if each.is_relative_to(GROUPS)]


def _quota(file: Path, otherwise: int) -> int:
    try:
        work, period = file.read_text().split()
        return int(work) // int(period)
    except (OSError, ValueError):  # no such file, or "max": no quota
        return otherwise
