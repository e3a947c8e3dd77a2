"""A run's status on a terminal: what `nakt status` prints."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from nakt_fed.cli.words import duration
from nakt_fed.status import site_words, words
from nakt_fed.status.values import RunStatus, SiteStatus

MARKS = {"done": "✓", "now": "›", "cut": "×", "todo": "·"}
BAR = 10
STYLES = {"connected": "green", "away": "yellow", "waiting": "yellow", "not_seen": "yellow", "set_aside": "red"}


def screen(status: RunStatus) -> Group:
    """Everything, from the run's name to how it ended."""
    return Group(*_parts(status))


def _parts(status: RunStatus) -> Iterator[RenderableType]:
    yield Text(f"run {status.folder}", overflow="fold")
    yield Text(words.headline(status), style="bold red" if status.state in ("failed", "stopped") else "bold")
    if status.report:
        yield Text(f"report: {status.report}", overflow="fold")
    if remedy := words.remedy(status, status.folder):
        yield Text(remedy, overflow="fold")
    yield Text("  ".join(_stage(stage.name, stage.state, stage.seconds) for stage in status.stages))
    yield Text("")
    yield _table(status.sites)
    yield Text("")
    for who, training in status.students.items():
        left = (
            f", {duration(training.seconds_left)} left" if training.epoch < training.epochs and not status.over else ""
        )
        yield Text(f"{words.STUDENTS.get(who, who)}: {words.epochs(training)}{left}")
    for site in status.sites:
        yield from _below(site, status)
    for told in status.warnings:
        yield Text(f"! {words.clock(told.time)} {told.message}")


def _stage(name: str, state: str, seconds: float) -> str:
    return f"{MARKS[state]} {name}" + (f" {duration(seconds)}" if state == "done" and seconds >= 1 else "")


def _table(sites: list[SiteStatus]) -> Table:
    right = [Column(title, justify="right", no_wrap=True) for title in ("chunks", "pictures/s", "left")]
    columns = [Column("site", overflow="fold"), Column("connection"), Column("offer", no_wrap=True), *right]
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for site in sites:
        rate = "" if site.pictures_per_second is None else f"{site.pictures_per_second:.1f}"
        left = duration(site.seconds_left) if site.seconds_left else ""
        state = Text(site_words.connection(site), style=STYLES.get(site.connection, ""))
        table.add_row(Text(site.name), state, site_words.offer(site), _chunks(site), rate, left)
    return table


def _chunks(site: SiteStatus) -> str:
    if not site.of:
        return ""
    full = BAR * site.chunks // site.of
    return f"{'█' * full}{'░' * (BAR - full)} {site.chunks}/{site.of}"


def _below(site: SiteStatus, status: RunStatus) -> Iterator[RenderableType]:
    """What does not fit into a row: what it does, what went wrong, what to do."""
    activity = [site_words.activity(site)] if not status.over else []
    for line in filter(None, [*activity, *site_words.hints(site, status)]):
        yield Padding(Text(f"{site.name}: {line}", overflow="fold"), (0, 0, 0, 2))
