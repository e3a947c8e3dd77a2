"""A run's status as JSON, with the words for it: what `nakt status --json` and the page give."""

from typing import Any

from nakt_fed.cli.words import duration, size
from nakt_fed.status.site_words import activity, connection, hints, offer
from nakt_fed.status.values import RunStatus, SiteStatus
from nakt_fed.status.words import STEPS, STUDENTS, epochs, headline, remedy, seconds_left


def document(status: RunStatus) -> dict[str, Any]:
    """The status as plain values, with the words for it."""
    raw = status.to_json()
    raw["words"] = {"headline": headline(status), "remedy": remedy(status), "seconds_left": seconds_left(status)}
    for stage, plain in zip(status.stages, raw["stages"], strict=True):
        plain["words"] = {"name": STEPS[stage.name], "seconds": duration(stage.seconds) if stage.seconds else ""}
    for site, plain in zip(status.sites, raw["sites"], strict=True):
        plain["words"] = _site_words(site, status)
    names = {who: STUDENTS.get(who, who) for who in status.students}
    raw["words"]["students"] = {who: f"{names[who]}: {epochs(told)}" for who, told in status.students.items()}
    return raw


def _site_words(site: SiteStatus, status: RunStatus) -> dict[str, Any]:
    return {
        "connection": connection(site),
        "offer": offer(site),
        "activity": activity(site) if not status.over else "",
        "left": duration(site.seconds_left) if site.seconds_left else "",
        "moved": f"{size(site.bytes_out)} out, {size(site.bytes_back)} back",
        "hints": hints(site, status),
    }
