"""Which runs have ordered which student to be personalised: when all of them have lost their approval, it ends and nothing of it stays."""

import shutil
from contextlib import suppress
from pathlib import Path
from threading import Lock

from nakt_fed.errors import RunError
from nakt_fed.locks import only_one
from nakt_fed.site.approvals import FOLDER as GATE
from nakt_fed.site.approvals import Approvals
from nakt_fed.site.gate_state import StateFile
from nakt_fed.site.personal_list import FOLDER, NUMBERS


class PersonalRuns:
    """{key of the order: [runs]} in personal.json. The service writes it, its training process and the operator read.

    Args:
        folder: the site's own (`site.folder` of the site file).
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._approvals = folder, Approvals(folder)
        self._file, self._lock = StateFile(folder / GATE / "personal.json"), Lock()

    def note(self, key: str, run: str, *, new: bool) -> None:
        """The run has ordered the student with this key. One that is not `new` counts only where another run has begun it."""
        with self._lock:
            orders = self._file.read()
            if (new or key in orders) and run not in orders.get(key, []):
                self._file.write({**orders, key: [*orders.get(key, []), run]})

    def withdrawn(self, key: str) -> bool:
        """Whether no run wants it any more that had ordered it. What no gate has let in (a simulation) never is."""
        runs = self._file.read().get(key, [])
        return bool(runs) and all(self._approvals.is_withdrawn(run) for run in runs)

    def drop(self, *, all_unfinished: bool = False) -> int:
        """Remove what is unfinished of those that are withdrawn, or of all. Returns how many are being trained: such a
        training ends with its epoch and leaves nothing either."""
        running = 0
        for folder in (self.folder / FOLDER).glob("*-*/"):
            if (folder / NUMBERS).exists() or not (all_unfinished or self.withdrawn(key_of(folder))):
                continue
            try:
                with only_one(folder):
                    shutil.rmtree(folder)
            except RunError:
                running += 1
        return running


def key_of(folder: Path) -> str:
    """Of the order, from the folder of its student: "<key>-<private pictures>"."""
    return folder.name.partition("-")[0]


def refuse_ended(folder: Path, *, expired: bool) -> None:
    """For the process that trains in a student's folder, which it holds.

    Raises:
        RunError: nobody wants it any more, or the policy has `expired`; the folder is gone.
    """
    if not expired and not PersonalRuns(folder.parent.parent).withdrawn(key_of(folder)):
        return
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
    why = "the policy's last day is past" if expired else "the approval of the run was withdrawn"
    raise RunError(f"{why}; nothing of the training is kept")
