"""Which runs the operator of a site has approved, and which wait. Read by the service at every request, written by `nakt site`."""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from nakt_fed.errors import RunError
from nakt_fed.locks import in_line
from nakt_fed.site.gate_state import StateFile

FOLDER = "gate"
"""The gate's folder within the site's own."""
MOST_WAITING = 100
Admit = Callable[[str, int, str], None]
"""A run, its number of pictures and their set; raises Refusal where an approval is missing."""


class Approvals:
    """Three files: the service notes who waits, operators' commands, one after the other, who may and who may no longer.

    Args:
        folder: the site's own (`site.folder` of the site file).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._approved = StateFile(folder / FOLDER / "approved.json")
        self._turn = folder / FOLDER / ".approved.lock"
        self._withdrawn = StateFile(folder / FOLDER / "withdrawn.json")
        self._waiting = StateFile(folder / FOLDER / "waiting.json")
        self._lock = Lock()

    def is_approved(self, run: str) -> bool:
        return run in self._approved.entries("time")

    def is_withdrawn(self, run: str) -> bool:
        """Whether it was approved and is no longer."""
        return run in self._withdrawn.entries("time")

    def wait(self, run: str, *, coordinator: str, pictures: int, picture_set: str) -> None:
        """Note that a run asks, at its first request; of very many runs the last ones are kept."""
        asked = {"coordinator": coordinator, "pictures": pictures, "set": picture_set, "asked": _now()}
        with self._lock:
            waiting = self.waiting()
            if run not in waiting:
                kept = list(waiting.items())[1 - MOST_WAITING :]
                self._waiting.write({**dict(kept), run: asked})

    def waiting(self) -> dict[str, dict[str, Any]]:
        """{run: {"coordinator", "pictures", "set", "asked"}} of the runs that are not approved."""
        approved = self._approved.entries("time")
        return {
            run: asked
            for run, asked in self._waiting.entries("coordinator", "pictures", "set", "asked").items()
            if run not in approved
        }

    def approved(self) -> dict[str, str]:
        """{run: when it was approved}."""
        return {run: str(entry["time"]) for run, entry in self._approved.entries("time").items()}

    def approve(self, run: str) -> dict[str, Any] | None:
        """From the next request on the run is answered. Returns what it asked for; None when it did not ask yet.

        Raises:
            RunError: no run can be called so, or the folder is another user's.
        """
        self._refuse_strangers()
        if not run or not run.isprintable():
            raise RunError(f"{run!r} is no run's name; `nakt site approvals` lists the runs that have asked")
        self._turn.parent.mkdir(parents=True, exist_ok=True)
        with in_line(self._turn):
            self._approved.write({**self._approved.entries("time"), run: {"time": _now()}})
            self._withdrawn.write(_without(self._withdrawn.entries("time"), run))
        return self._waiting.read().get(run)

    def withdraw(self, run: str) -> None:
        """From the next request on the run is refused again. Raises RunError: it was not approved, or as `approve`."""
        self._refuse_strangers()
        self._turn.parent.mkdir(parents=True, exist_ok=True)
        with in_line(self._turn):
            approved = self._approved.entries("time")
            if run not in approved:
                known = ", ".join(approved) or "none"
                raise RunError(f"run {run!r} is not approved, so it cannot be withdrawn; approved: {known}")
            self._withdrawn.write({**self._withdrawn.entries("time"), run: {"time": _now()}})
            self._approved.write(_without(approved, run))  # last: where the disk is full, it can be withdrawn again

    def _refuse_strangers(self) -> None:
        """What root writes the service may not be able to read, and it answers nothing on a guess."""
        if not self.folder.exists() or self.folder.stat().st_uid == os.geteuid():
            return
        owner = str(self.folder.stat().st_uid)
        with suppress(KeyError):  # a number without a name
            owner = self.folder.owner()
        raise RunError(f"{self.folder} belongs to user {owner}; give this command as that user (sudo -u {owner} ...)")


def _without(runs: dict[str, Any], run: str) -> dict[str, Any]:
    return {name: entry for name, entry in runs.items() if name != run}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
