"""Progress for people, from the run's events: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn
from rich.table import Column, Table

from nakt_fed.cli.words import duration, size

STAGES = {
    "teachers": "teachers: each site trains or loads its own",
    "pictures": "transferal pictures: read, derive views, hash",
    "masks": "masks: every site answers",
    "fusion": "fusion and filter",
    "student": "student: learns from the pseudo masks",
    "fine_tune": "fine-tuning on annotated pictures",
    "evaluation": "evaluation on the test sets",
    "report": "report",
}
SILENT_SECONDS = 60
"""Without a terminal, a line at least this often while there is something new."""


def epoch_text(event: dict[str, Any]) -> str:
    dice = "" if event["validation_dice"] is None else f", val. Dice {100 * event['validation_dice']:.1f} %"
    left = f", {duration(event['seconds_left'])} left" if event["epoch"] < event["epochs"] else ""
    return f"loss {event['loss']:.3f}{dice}{left}"


def site_text(event: dict[str, Any]) -> str:
    what = "pictures out" if event["request"] == "pictures" else "masks back"
    where = "" if event["set"] == "transferal" else f" (test set {event['set'].removeprefix('test-')})"
    return f"{what}{where}, {event['pictures_per_second']:.0f} pictures/s, {size(event['bytes'])}"


class _Bars(Progress):
    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """Some columns stay free for the ^C that a terminal echoes, which would break a full line in two."""
        table = super().make_tasks_table(tasks)
        table.width = self.console.width - 4 if table.row_count else None
        return table


class Display:
    """Call it with every event. On a terminal there is one bar per site and training, elsewhere some plain lines."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, emoji=False)
        self.live = self.console.is_interactive
        self.bars = _Bars(
            TextColumn("  {task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(16 if self.console.width >= 100 else 6),
            TextColumn("{task.fields[unit]} {task.completed:.0f}/{task.total:.0f}", table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
            console=self.console,
            transient=True,
            disable=not self.live,
        )
        self.tasks: dict[str, TaskID] = {}
        self.last: dict[str, str] = {}
        self.said: dict[str, float] = {}

    def __enter__(self) -> "Display":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._settle()
        self.bars.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event; unknown kinds are passed over."""
        show = getattr(self, f"_{event['kind']}", None)
        if show:
            show(event)

    def bar(self, key: str, unit: str, done: int, total: int, text: str, *, keep: bool = True) -> None:
        """How far `key` is. With `keep` its last state stays on the terminal as a line when the stage ends."""
        line = f"  {key}  {unit} {done}/{total}  {text}"
        if not self.live:
            if (keep or done == total) and self._due(key, done, total):
                self._say(line)
            return
        if key not in self.tasks:
            self.tasks[key] = self.bars.add_task(key, completed=done, total=total, text=text, unit=unit)
        self.bars.update(self.tasks[key], completed=done, total=total, text=text, unit=unit)
        if keep:
            self.last[key] = line

    def _due(self, key: str, done: int, total: int) -> bool:
        """The first, the last, every fifth part, and whenever it has been silent for long."""
        now = time.monotonic()
        due = done in (1, total) or done % max(1, total // 5) == 0 or now - self.said.get(key, now) > SILENT_SECONDS
        if due:
            self.said[key] = now
        return due

    def _say(self, text: str) -> None:
        self.bars.console.print(text, markup=False, soft_wrap=True)

    def _settle(self) -> None:
        """The bars of a stage that has ended become lines."""
        for task in self.tasks.values():
            self.bars.update(task, visible=False, refresh=True)
            self.bars.remove_task(task)
        for line in self.last.values():
            self._say(line)
        self.tasks, self.last = {}, {}

    def _stage(self, event: dict[str, Any]) -> None:
        self._settle()
        if event["state"] == "begins":
            self._say(f"› {STAGES.get(event['name'], event['name'])}")
        elif event["seconds"] >= 1:
            self._say(f"  done in {duration(event['seconds'])}")

    def _epoch(self, event: dict[str, Any]) -> None:
        self.bar(event["who"], "epoch", event["epoch"], event["epochs"], epoch_text(event))

    def _site(self, event: dict[str, Any]) -> None:
        shared = event["set"] == "transferal"
        if shared or (self.live and event["request"] == "masks"):  # a line per test set and site would be noise
            keep = shared and event["request"] == "masks"
            self.bar(event["site"], "chunk", event["chunks"], event["of"], site_text(event), keep=keep)

    def _note(self, event: dict[str, Any]) -> None:
        self._say(f"  {event['message']}")

    def _warning(self, event: dict[str, Any]) -> None:
        self._say(f"! {event['message']}")
