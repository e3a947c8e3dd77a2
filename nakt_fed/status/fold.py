"""What a run's events and ledger have told so far, line by line: the state from which `reader.py` makes a RunStatus."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nakt_fed.status.files import plain
from nakt_fed.status.values import Epoch, Told

SET_ASIDE = re.compile(r"site (?P<site>\S+) is set aside \((?P<where>[^)]*)\): (?P<reason>.*)", re.DOTALL)
NO_ERROR = {"no_evaluation", "no_personalisation", "too_few_images"}
"""A site that does not judge students has done nothing wrong."""


@dataclass
class SiteNotes:
    """What is known of one site. `masks`: per picture set, chunks answered and chunks asked in the last start."""

    connection: str = ""
    reason: str = ""
    since: str = ""
    offered: str = ""
    set_aside: Told | None = None
    where: str = ""
    masks: dict[str, tuple[int, int]] = field(default_factory=dict)
    sending: tuple[int, int] | None = None
    rate: float | None = None
    teacher: Epoch | None = None
    bytes_out: int = 0
    bytes_back: int = 0
    last_error: Told | None = None

    @property
    def is_set_aside(self) -> bool:
        """A later start that has offered it the pictures again has taken it back in."""
        return self.set_aside is not None and self.set_aside.time >= self.offered

    @property
    def offer(self) -> str:
        """none, accepted or refused."""
        if self.is_set_aside and self.where == "transferal" and not self.offered:
            return "refused"
        return "accepted" if self.offered else "none"

    def fail(self, told: Told) -> None:
        if self.last_error is None or told.time >= self.last_error.time:
            self.last_error = told


class Fold:
    """Call `event` and `exchange` with every line of events.jsonl and ledger.jsonl; what cannot be read is passed over."""

    def __init__(self, run: Path, names: list[str]) -> None:
        self.run = run
        self.sites = {name: SiteNotes() for name in names}
        self.students: dict[str, Epoch] = {}
        self.stages: dict[str, str] = {}  # name: begins or done
        self.seconds: dict[str, float] = {}
        self.stage = ""
        self.first = self.last = ""
        self.begun = False  # a note may come from whoever starts it
        self.end: Told | None = None  # without words when it is done
        self.warnings: list[Told] = []

    def event(self, event: Mapping[str, Any]) -> None:
        """One line of events.jsonl."""
        show = getattr(self, f"_{event.get('kind')}", None)
        time = str(event.get("time", ""))
        if event.get("kind") == "start" or (self.end and event.get("kind") not in ("done", "error")):
            self._start(event)  # somebody goes on with it
        self.first, self.last = self.first or time, time
        self.begun = self.begun or event.get("kind") != "note"
        if show:
            with suppress(KeyError, TypeError, ValueError):  # an event of another version of nakt-fed
                show(event)

    def exchange(self, line: Mapping[str, Any]) -> None:
        """One line of ledger.jsonl."""
        with suppress(KeyError, TypeError, ValueError):
            site = self.sites[line["site"]]
            site.bytes_out += int(line["bytes_out"])
            site.bytes_back += int(line["bytes_back"])
            if (line["kind"], line["set"], line["outcome"]) == ("offer", "transferal", "ok"):
                site.offered = str(line["time"])
            if line["outcome"] != "ok" and line.get("reason") not in NO_ERROR:
                site.fail(self._told(line["time"], line.get("reason") or line["outcome"]))

    def _told(self, time: Any, text: Any) -> Told:
        return Told(str(time), plain(str(text), self.run))

    def _start(self, event: Mapping[str, Any]) -> None:
        """A start begins: who was there in the one before need not be there now."""
        self.end, self.stage = None, ""
        for site in self.sites.values():
            site.connection = site.reason = site.since = ""
            site.sending = None

    def _stage(self, event: Mapping[str, Any]) -> None:
        name, state = str(event["name"]), str(event["state"])
        self.stages[name] = state
        self.stage = name if state == "begins" else ""
        self.seconds[name] = self.seconds.get(name, 0.0) + float(event.get("seconds", 0.0))

    def _presence(self, event: Mapping[str, Any]) -> None:
        site, reason = self.sites[event["site"]], plain(str(event["reason"]), self.run)
        site.connection, site.reason, site.since = str(event["state"]), reason, str(event["time"])
        if site.connection == "away":
            site.fail(Told(site.since, reason))

    def _site(self, event: Mapping[str, Any]) -> None:
        site, progress = self.sites[event["site"]], (int(event["chunks"]), int(event["of"]))
        if event["request"] == "masks":
            site.masks[str(event["set"])] = progress
            site.rate, site.sending = float(event["pictures_per_second"]), None
        else:
            site.sending = progress

    def _epoch(self, event: Mapping[str, Any]) -> None:
        dice = event["validation_dice"]
        epoch = Epoch(
            int(event["epoch"]),
            int(event["epochs"]),
            float(event["loss"]),
            None if dice is None else float(dice),
            float(event["seconds_left"]),
        )
        who, _, name = str(event["who"]).partition(":")
        if who == "teacher":
            self.sites[name].teacher = epoch
        elif not name:  # else a student that a site personalises
            self.students[who] = epoch

    def _warning(self, event: Mapping[str, Any]) -> None:
        told = self._told(event["time"], event["message"])
        found = SET_ASIDE.fullmatch(told.message)
        if found and found["site"] in self.sites:
            site = self.sites[found["site"]]
            site.set_aside, site.where = Told(told.time, found["reason"]), found["where"]
            site.fail(site.set_aside)
        else:
            self.warnings = [*self.warnings, told][-10:]

    def _error(self, event: Mapping[str, Any]) -> None:
        self.end = self._told(event["time"], event["message"] or "it failed without a reason")

    def _done(self, event: Mapping[str, Any]) -> None:
        self.end = Told(str(event["time"]), "")
