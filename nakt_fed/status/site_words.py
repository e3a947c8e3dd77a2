"""A site's status in plain words: whether it is there, what it does, what one should do."""

from collections.abc import Iterator

from nakt_fed.cli.words import duration
from nakt_fed.status.reasons import WAITS, in_words
from nakt_fed.status.values import RunStatus, SiteStatus
from nakt_fed.status.words import clock, epochs

CONNECTIONS = {
    "local": "simulated here",
    "not_seen": "not seen yet",
    "connected": "connected",
    "away": "away",
    "waiting": "waiting",
    "set_aside": "set aside",
    "over": "–",
}


def connection(site: SiteStatus) -> str:
    """Whether the site is there, and since when."""
    if site.connection == "waiting":
        return WAITS.get(_code(site), (f"waiting: {site.reason}", ""))[0]
    since = f" since {clock(site.since)}" if site.connection in ("away", "set_aside") and site.since else ""
    return CONNECTIONS.get(site.connection, site.connection) + since


def _code(site: SiteStatus) -> str:
    """The code of its reason, without what follows it."""
    return site.reason.partition("; ")[0]


def offer(site: SiteStatus) -> str:
    """What the site said to the offered pictures."""
    return {"accepted": "accepted", "refused": "refused"}.get(site.offer, "not yet")


def activity(site: SiteStatus) -> str:
    """What it does now besides answering."""
    if site.sending and site.sending[0] < site.sending[1]:
        return f"receives the pictures: {site.sending[0]} of {site.sending[1]} parts"
    training = site.teacher
    if training and training.epoch < training.epochs and not site.chunks:
        return f"trains its teacher: {epochs(training)}"
    return ""


def hints(site: SiteStatus, status: RunStatus) -> list[str]:
    """What one should know of a site, and do."""
    return [hint[:1].upper() + hint[1:] for hint in _hints(site, status)]


def _hints(site: SiteStatus, status: RunStatus) -> Iterator[str]:
    if site.connection == "set_aside":
        refused = "it refused the pictures: " if site.offer == "refused" else ""
        yield f"The run goes on without it: {refused}{in_words(site.reason)}"
    elif site.connection == "waiting" and _code(site) in WAITS:
        progress = site.reason.partition("; ")[2]
        yield WAITS[_code(site)][1].format(site=site.name, run=status.run) + (f": {progress}" if progress else "")
    elif site.connection == "away":
        needed = not status.over and (site.of is None or site.chunks < site.of)
        patience = f"; it goes on by itself when it is back, the run waits up to {duration(status.waits_seconds)}"
        yield in_words(site.reason) + (patience if needed else "")
    elif site.connection == "not_seen":
        yield f"Is it running? At {site.name}: nakt site start"
    error = site.last_error
    if error and error.message != site.reason:
        yield f"Last problem, at {clock(error.time)}: {in_words(error.message)}"
