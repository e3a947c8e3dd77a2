"""How far a run is: a run folder becomes a RunStatus, while the run goes on and afterwards. It only reads."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nakt_fed.errors import RunError
from nakt_fed.status.files import Tail, is_held, written
from nakt_fed.status.fold import Fold, SiteNotes
from nakt_fed.status.values import RunStatus, SiteStatus, Stage
from nakt_fed.study import FederatedStudy, Study
from nakt_fed.study.file import load_study

STAGES = ("teachers", "pictures", "masks", "fusion", "student", "fine_tune", "evaluation", "report")
SILENT_SECONDS = 30.0
"""A run that nobody holds and that has written nothing for so long has stopped."""


def read_status(folder: Path) -> RunStatus:
    """The state of a run now. Raises RunError or StudyError: the folder is none of a run, or its study cannot be read."""
    return RunReader(folder).read()


def newest_run(runs: Path) -> Path:
    """The run folder below `runs` that was written to last. Raises RunError: there is none."""
    found = [path.parent for path in runs.glob("*/study.toml")]
    if not found:
        raise RunError(f"there is no run in {runs}; give the run's folder: nakt status RUN")
    return max(found, key=written)


class RunReader:
    """Reads a run folder again and again; each time only what is new in its files.

    Raises:
        RunError: the folder is none of a run.
        StudyError: its study.toml cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        if not (self.folder / "study.toml").is_file():
            raise RunError(f"{folder} is not the folder of a run; give the one that `nakt run` printed")
        self.study: Study = load_study(self.folder / "study.toml")
        self.federated = isinstance(self.study, FederatedStudy)
        self.fold = Fold(self.folder, self.study.site_names)
        self._events, self._ledger = Tail(self.folder / "events.jsonl"), Tail(self.folder / "ledger.jsonl")
        self._chunks: dict[str, int] = {}
        self._pictures: dict[str, int] = {}

    def read(self) -> RunStatus:
        """The state of now. Raises RunError: the folder is gone."""
        if not (self.folder / "study.toml").is_file():
            raise RunError(f"{self.folder} is gone or holds no run any more")
        for line in self._ledger.new():
            self.fold.exchange(line)
        for line in self._events.new():
            self.fold.event(line)
        self._count_chunks()
        fold, state, report = self.fold, self._state(), self.folder / "report.html"
        return RunStatus(
            run=self.folder.name,
            folder=str(self.folder),
            study=self.study.study.name,
            federated=self.federated,
            state=state,
            began=fold.first,
            updated=fold.last,
            waits_seconds=self.study.round.site_timeout,
            stage=fold.stage if state == "running" else "",
            stages=list(self._stages(state)),
            sites=[self._site(name, state) for name in fold.sites],
            students=dict(fold.students),
            warnings=list(fold.warnings),
            end=fold.end if fold.end and state == "failed" else None,
            report=str(report) if state == "done" and report.exists() else "",
        )

    def _state(self) -> str:
        if self.fold.end:
            return "failed" if self.fold.end.message else "done"
        if time.time() - written(self.folder) > SILENT_SECONDS and is_held(self.folder) is False:
            return "stopped"
        return "running" if self.fold.begun else "starting"

    def _stages(self, state: str) -> Iterator[Stage]:
        words = {"done": "done", "begins": "now" if state == "running" else "cut"}
        for name in STAGES:
            if name != "fine_tune" or self.study.fine_tune:
                yield Stage(name, words.get(self.fold.stages.get(name, ""), "todo"), self.fold.seconds.get(name, 0.0))

    def _count_chunks(self) -> None:
        """Of every picture set, once it is prepared."""
        files = {f"test-{path.parent.name}": path for path in self.folder.glob("tests/*/manifest.json")}
        files["transferal"] = self.folder / "manifest.json"
        for name in files.keys() - self._chunks.keys():
            with suppress(OSError, ValueError, KeyError, TypeError):
                pictures = len(json.loads(files[name].read_bytes())["pictures"])
                self._chunks[name], self._pictures[name] = math.ceil(pictures / self.study.chunk(pictures)), pictures

    def _site(self, name: str, state: str) -> SiteStatus:
        notes = self.fold.sites[name]
        connection, since, reason = self._connection(notes, state)
        done, of = self._done(notes), sum(self._chunks.values()) if self._chunks else None
        rate, left = notes.rate, None
        if of and rate and state == "running" and connection in ("local", "connected"):
            left = (1 - done / of) * sum(self._pictures.values()) / rate
        return SiteStatus(
            name=name,
            connection=connection,
            since=since,
            reason=reason,
            offer=notes.offer,
            chunks=done,
            of=of,
            pictures_per_second=rate,
            seconds_left=round(left, 1) if left is not None else None,
            sending=notes.sending if state == "running" else None,
            teacher=notes.teacher,
            bytes_out=notes.bytes_out,
            bytes_back=notes.bytes_back,
            last_error=notes.last_error,
        )

    def _done(self, notes: SiteNotes) -> int:
        """Chunks of masks that are here: an event counts those of one start, and how many were missing when it began."""
        if "fusion" in self.fold.stages and not notes.is_set_aside:
            return sum(self._chunks.values())
        asked = {name: notes.masks[name] for name in self._chunks if name in notes.masks}
        return sum(max(0, self._chunks[name] - (of - done)) for name, (done, of) in asked.items())

    def _connection(self, notes: SiteNotes, state: str) -> tuple[str, str, str]:
        """Connection, since when, and why."""
        if notes.set_aside and notes.is_set_aside:
            return "set_aside", notes.set_aside.time, notes.set_aside.message
        if not self.federated:
            return "local", "", ""
        if state == "done" or (state in ("failed", "stopped") and notes.connection in ("connected", "")):
            return "over", "", ""
        missed = "over" if "fusion" in self.fold.stages else "not_seen"
        return notes.connection or missed, notes.since, notes.reason
