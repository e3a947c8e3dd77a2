"""A run's status in plain words, the same on the terminal and on the page."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from nakt_fed.cli.words import duration, size
from nakt_fed.resume import resume_command
from nakt_fed.status_data import Epoch, RunStatus, SiteStatus
from nakt_fed.status_reasons import WAITS, in_words

STEPS = {
    "teachers": "Sites get their teachers ready",
    "pictures": "Pictures are prepared",
    "masks": "Sites answer the pictures",
    "fusion": "Answers are combined",
    "student": "Student learns",
    "fine_tune": "Student is fine-tuned",
    "evaluation": "Student is tested",
    "report": "Report is written",
}
STUDENTS = {"student": "Student", "student+fine_tune": "Fine-tuning"}
CONNECTIONS = {
    "local": "simulated here",
    "not_seen": "not seen yet",
    "connected": "connected",
    "away": "away",
    "waiting": "waiting",
    "set_aside": "set aside",
    "over": "–",
}


def headline(status: RunStatus) -> str:
    """Where the run is, in a sentence or two."""
    if status.state == "done":
        return "Finished. The report is ready." if status.report else "Finished."
    if status.state == "failed":
        return f"Stopped by an error: {status.end.message if status.end else ''}"
    if status.state == "stopped":
        return "Stopped: nothing on this machine works on it any more, and it is not finished."
    if status.state == "starting":
        return "It is being started."
    number = next((n for n, stage in enumerate(status.stages, 1) if stage.name == status.stage), None)
    if number is None:
        return _silent(status) or "Between two steps."
    left = seconds_left(status)
    about = f" About {duration(left)} left in this step." if left else ""
    return f"Step {number} of {len(status.stages)}: {STEPS[status.stage]}.{about} {_silent(status)}".rstrip()


def _silent(status: RunStatus) -> str:
    """Which sites are waited for."""
    names = [site.name for site in status.sites if site.connection in ("not_seen", "away", "waiting")]
    asked = status.stage in ("", "teachers", "pictures", "masks")
    return f"Waiting for {', '.join(names)}." if names and asked else ""


def remedy(status: RunStatus, folder: str = "") -> str:
    """How to go on with a run that has ended too early; `folder`: as what the run folder is named, else by its name alone."""
    if status.state not in ("failed", "stopped"):
        return ""
    command = resume_command(folder or status.run, status.federated)
    return f"What was done is kept. When it is mended, go on with: {command}"


def seconds_left(status: RunStatus) -> float | None:
    """Until the present step is done, as far as that can be said."""
    if status.stage in ("student", "fine_tune"):
        training = list(status.students.values())[-1:]
        return training[0].seconds_left if training else None
    if status.stage == "teachers":
        return max((site.teacher.seconds_left for site in status.sites if site.teacher), default=None)
    if status.stage == "masks":
        left = [site.seconds_left for site in status.sites if site.connection != "set_aside"]
        known = [seconds for seconds in left if seconds is not None]
        return max(known) if known and len(known) == len(left) else None
    return None


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


def epochs(training: Epoch) -> str:
    """How far a training is."""
    dice = "" if training.dice is None else f", Dice {100 * training.dice:.1f} % on validation pictures"
    return f"epoch {training.epoch} of {training.epochs}{dice}"


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


def clock(time: str) -> str:
    """A UTC time on this machine's clock, with the day where it was not today."""
    try:
        local = datetime.fromisoformat(time).astimezone()
    except ValueError:
        return time
    today = local.date() == datetime.now().astimezone().date()
    return f"{local:%H:%M:%S}" if today else f"{local:%Y-%m-%d %H:%M}"


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
