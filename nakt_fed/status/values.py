"""What a run's status holds: plain values that the terminal, the page and `--json` show alike. Times are UTC, ISO 8601."""

from dataclasses import asdict, dataclass
from typing import Any

VERSION = 1
"""Of the JSON."""


@dataclass(frozen=True)
class Told:
    """Words with their time."""

    time: str
    message: str


@dataclass(frozen=True)
class Epoch:
    """How far a training is; `dice` is a fraction, on validation pictures."""

    epoch: int
    epochs: int
    loss: float
    dice: float | None
    seconds_left: float


@dataclass(frozen=True)
class SiteStatus:
    """One site.

    connection: `local` (a simulation), `not_seen`, `connected`, `away`, `waiting` (there, but it cannot answer just now),
        `set_aside` (the run goes on without it) or `over` (nothing is asked of it any more); `since` which time, `reason` a code or words.
    offer: of the transferal pictures: `none` so far, `accepted` or `refused`.
    chunks, of: of all masks that are asked of it, over all picture sets; `of` is None until the pictures are prepared.
    sending: chunks of pictures that it has received, and how many it lacked, while they are sent.
    """

    name: str
    connection: str
    since: str
    reason: str
    offer: str
    chunks: int
    of: int | None
    pictures_per_second: float | None
    seconds_left: float | None
    sending: tuple[int, int] | None
    teacher: Epoch | None
    bytes_out: int
    bytes_back: int
    last_error: Told | None


@dataclass(frozen=True)
class Stage:
    """`state`: todo, now, done, or cut (the run ended in it); `seconds` over all starts that finished it."""

    name: str
    state: str
    seconds: float


@dataclass(frozen=True)
class RunStatus:
    """A run.

    state: `starting`, `running`, `done`, `failed` (`end` says why) or `stopped` (nobody works on it, and it is not done).
    federated: between hospitals, not simulated on one machine.
    waits_seconds: how long a site may be away.
    students: `student` and `student+fine_tune`, once their training has begun.
    report: the path of report.html, when it is done.
    """

    run: str
    folder: str
    study: str
    federated: bool
    state: str
    began: str
    updated: str
    waits_seconds: float
    stage: str
    stages: list[Stage]
    sites: list[SiteStatus]
    students: dict[str, Epoch]
    warnings: list[Told]
    end: Told | None
    report: str

    @property
    def over(self) -> bool:
        """Whether nothing more will come, unless somebody resumes it."""
        return self.state in ("done", "failed", "stopped")

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the version of this form."""
        return {"version": VERSION, **asdict(self)}
