"""A run's status in plain words, the same on the terminal and on the page."""

from datetime import datetime

from nakt_fed.cli.words import duration
from nakt_fed.resume import resume_command
from nakt_fed.status.values import Epoch, RunStatus

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


def epochs(training: Epoch) -> str:
    """How far a training is."""
    dice = "" if training.dice is None else f", Dice {100 * training.dice:.1f} % on validation pictures"
    return f"epoch {training.epoch} of {training.epochs}{dice}"


def clock(time: str) -> str:
    """A UTC time on this machine's clock, with the day where it was not today."""
    try:
        local = datetime.fromisoformat(time).astimezone()
    except ValueError:
        return time
    today = local.date() == datetime.now().astimezone().date()
    return f"{local:%H:%M:%S}" if today else f"{local:%Y-%m-%d %H:%M}"
