"""Whether a run between hospitals is over, as seen from `nakt run`, which only watches the run's own process."""

import shutil
import time
from contextlib import suppress
from pathlib import Path

from nakt_fed.errors import RunError
from nakt_fed.events import EventLog
from nakt_fed.status.files import is_held

from .client import Client

FINISHED, COMPLETED = "finished", "finished:completed"  # Flower's words
ASK_SECONDS = 15.0  # between two looks whether the run still goes on; each starts a process
ALONE_SECONDS = 3.0  # that nobody works in the run folder: it was killed, which Flower notices only after a minute
TOLD_SECONDS = (
    15.0  # the same after its last word: Flower, whose own disk may be full, should have noted the end by then
)
WORD_SECONDS = 20.0  # between two lines while nothing has begun
LEAST_FREE = 64 * 1024  # bytes; with less on its disk a run cannot even say why it ended


class Watch:
    """Flower is asked now and then, because a run that was killed tells nothing. `status` is its last answer.

    `begun`: the run's process has said something.
    """

    def __init__(self, client: Client, run_id: int, run: Path) -> None:
        self.client, self.run_id, self.run = client, run_id, run
        self.begun, self.status, self._last = False, "", ""
        self._began = self._asked = self._said = time.monotonic()
        self._seen = False
        self._alone: float | None = None

    def saw(self, kind: str) -> None:
        """An event of this kind came."""
        self.begun, self._last = self.begun or kind != "note", kind

    @property
    def told_end(self) -> bool:
        """Whether the run's process has said that it is over."""
        return self._last in ("error", "done")

    def over(self) -> bool:
        """Whether nothing more will come."""
        if self.told_end or time.monotonic() - self._asked > ASK_SECONDS:
            self.status = self.client.status(self.run_id)
            self._asked = time.monotonic()
        if not self.status.startswith(FINISHED) and self._is_gone():
            self.status = COMPLETED if self._last == "done" else f"{FINISHED}:killed"
        if not self.begun and not self.status.startswith(FINISHED):
            self._say_that_it_waits()
        return self.status.startswith(FINISHED)

    def _is_gone(self) -> bool:
        """Whether the process that worked in the run folder is there no more, though Flower does not say so."""
        held, now = is_held(self.run), time.monotonic()
        if held is not False:
            self._seen, self._alone = self._seen or bool(held), None
        elif self._alone is None:  # counted from this look: the one before may be long ago, and the end still unread
            self._alone = now
        patience = TOLD_SECONDS if self.told_end else ALONE_SECONDS
        if not (self._seen or self.told_end) or self._alone is None or now - self._alone < patience:
            return False
        with suppress(RunError):  # else a run that is resumed would find Flower busy with this one
            self.client.stop(self.run_id)
        return True

    def _say_that_it_waits(self) -> None:
        now = time.monotonic()
        if now - self._said < WORD_SECONDS:
            return
        self._said = now
        EventLog(self.run / "events.jsonl").emit(
            "note",
            message=f"the run has not begun for {now - self._began:.0f} s; Flower says {self.status or 'nothing'!r} "
            "(it notices a process that died within about two minutes)",
        )

    def full_disk(self) -> str:
        """In words, when the run or the coordinator's own state has no room; else empty."""
        for what, folder in (("the run", self.run), ("the coordinator's state", self.client.kit.state)):
            if folder.exists() and shutil.disk_usage(folder).free < LEAST_FREE:
                return f"the disk is full, {what} is in {folder}; free some space, then resume"
        return ""

    def why(self, log: Path) -> str:
        """Why it ended, when it said nothing itself; `log` is where Flower's words are."""
        if not self.begun:
            return f"the run's process ended before it had begun (in Flower: {self.status!r}); see the log {log}"
        return f"the run ended in Flower as {self.status!r}; see the log {log}"
