"""Who is there: sites come late, go away, come back, and some never do."""

import time
from collections import Counter
from collections.abc import Callable, Mapping

from nakt_fed.events import EventLog

Here = Callable[[], Mapping[str, int]]
"""The sites that are connected now, with the node that each one is."""

LOOK_SECONDS = 1.0
FAILURES = 20  # in a row, of a site that is connected all the time: something is wrong with it, waiting does not help
PAUSES = {
    "no_service": 2.0,
    "busy": 1.0,
    "not_approved": 5.0,
    "app_not_approved": 10.0,
    "training": 10.0,
    "quota": 60.0,
}
"""Seconds until a site that cannot answer just now is asked again, by the reason that it gives."""


class Presence:
    """Whether a site can be asked. One that has given no answer for `patience` seconds and is not there is lost.

    Every change is told as an event `presence`: site, state (connected, away, waiting), reason.
    """

    def __init__(self, names: list[str], here: Here, patience: float, events: EventLog | None = None) -> None:
        self.names, self.patience = names, patience
        self._here, self._events = here, events
        self._nodes: dict[str, int] = {}
        self._silent_since = dict.fromkeys(names, time.monotonic())
        self._ask_at = dict.fromkeys(names, 0.0)
        self._failures: Counter[str] = Counter()
        self._states: dict[str, str] = {}
        self._looked = -LOOK_SECONDS

    def node(self, name: str) -> int | None:
        """The site's node, if it can be asked now."""
        self._look()
        return self._nodes.get(name) if time.monotonic() >= self._ask_at[name] else None

    def lost(self, name: str) -> bool:
        """Whether it is not worth waiting for an answer of the site."""
        silent = time.monotonic() - self._silent_since.get(name, time.monotonic())
        return self._failures[name] > FAILURES or (name in self._silent_since and silent >= self.patience)

    def failed(self, name: str, reason: str, progress: str = "") -> None:
        """It could not answer just now: it is asked again after a pause. `progress`: how far it says it is."""
        waiting = reason in PAUSES
        if not waiting:
            self._failures[name] += 1
            self._nodes.pop(name, None)  # found again by the next look, perhaps as another node
        self._ask_at[name] = time.monotonic() + PAUSES.get(reason, LOOK_SECONDS)
        self._silent_since.setdefault(name, time.monotonic())
        self._tell(name, "waiting" if waiting else "away", f"{reason}; {progress}" if progress else reason)

    def answered(self, name: str) -> None:
        """It has answered."""
        self._silent_since.pop(name, None)
        self._failures[name] = 0
        self._tell(name, "connected")

    def _look(self) -> None:
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        here = self._here()
        self._looked = time.monotonic()
        for name in self.names:
            if name not in here and name in self._nodes:
                self._silent_since.setdefault(name, self._looked)
                self._tell(name, "away", "its connection is gone")
            elif name in here and name not in self._nodes and self._states.get(name) != "waiting":
                self._tell(name, "connected")
            if name not in here:
                self._failures[name] = 0
        self._nodes = {name: here[name] for name in self.names if name in here}

    def _tell(self, name: str, state: str, reason: str = "") -> None:
        if self._states.get(name) != state + reason:
            self._states[name] = state + reason
            if self._events:
                self._events.emit("presence", site=name, state=state, reason=reason)
