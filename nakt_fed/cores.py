"""How many cores this process may use: threads beyond them wait for each other, which makes a training several times slower."""

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""A container's own limit as it sees it (cgroup v2): "max 100000", or microseconds of work per period."""


def cores() -> int:
    """Those that its affinity names (taskset, Slurm, cpusets), and no more than its container's quota; at least one."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(here, _quota()))


def _quota() -> int:
    try:
        work, period = QUOTA.read_text().split()
        return int(work) // int(period)
    except (OSError, ValueError):  # no cgroup v2, or "max": no quota
        return 2**31
