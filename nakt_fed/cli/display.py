"""Progress for people: bars on a terminal, plain lines elsewhere; from the run's events."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

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


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def epoch_text(event: dict[str, Any]) -> str:
    dice = "" if event["validation_dice"] is None else f", validation Dice {100 * event['validation_dice']:.1f} %"
    return f"loss {event['loss']:.3f}{dice}, {_left(event['seconds_left'])} left"


def site_text(event: dict[str, Any]) -> str:
    what = "pictures out" if event["request"] == "pictures" else "masks back"
    return f"{what} ({event['set']}), {event['pictures_per_second']:.0f} pictures/s, {size(event['bytes'])}"


def _left(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


class Display:
    """Call it with every event. On a terminal there is one bar per site and training, elsewhere some plain lines."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=False, highlight=False)
        self.live = self.console.is_terminal
        self.bars = Progress(
            TextColumn("  {task.description:<24}"), BarColumn(24), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[text]}"), TimeElapsedColumn(), console=self.console, transient=True, disable=not self.live,
        )  # fmt: skip
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Display":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event; unknown kinds are passed over."""
        show = getattr(self, f"_{event['kind']}", None)
        if show:
            show(event)

    def _say(self, text: str) -> None:
        self.bars.console.print(text, markup=False, soft_wrap=True)

    def _stage(self, event: dict[str, Any]) -> None:
        for task in self.tasks.values():
            self.bars.remove_task(task)
        self.tasks = {}
        if event["state"] == "begins":
            self._say(f"› {STAGES.get(event['name'], event['name'])}")
        elif event["seconds"] >= 1:
            self._say(f"  done in {_left(event['seconds'])}")

    def _bar(self, key: str, done: int, total: int, text: str) -> None:
        if not self.live:
            if done == total or done == 1 or done % max(1, total // 5) == 0:
                self._say(f"  {key}  {done}/{total}  {text}")
            return
        if key not in self.tasks:
            self.tasks[key] = self.bars.add_task(key, total=total, text=text)
        self.bars.update(self.tasks[key], completed=done, total=total, text=text)

    def _epoch(self, event: dict[str, Any]) -> None:
        self._bar(event["who"], event["epoch"], event["epochs"], epoch_text(event))

    def _site(self, event: dict[str, Any]) -> None:
        self._bar(event["site"], event["chunks"], event["of"], site_text(event))

    def _warning(self, event: dict[str, Any]) -> None:
        self._say(f"! {event['message']}")


def print_results(run: Path, console: Console | None = None) -> None:
    """The Dice table of a finished run and where its report is."""
    console = console or Console(highlight=False)
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    tests = list(next(iter(results["dice"].values()), {}))
    if tests:
        console.print(_dice_table(results["dice"], tests))
    kept = results["transferal"]
    console.print(f"{kept['kept']} of {kept['images']} transferal pictures kept; {size(results['bytes']['back'])} of masks came back", soft_wrap=True)
    console.print(f"report: {run / 'report.html'}", soft_wrap=True, markup=False)


def _dice_table(dice: dict[str, Any], tests: list[str]) -> Table:
    table = Table(title="Dice on the test sets, mean ± std over pictures, in %", title_justify="left")
    table.add_column("")
    for test in [*tests, "mean"]:
        table.add_column(test, justify="right")
    for model, row in dice.items():
        mean = sum(row[test]["mean"] for test in tests) / len(tests)
        cells = [f"{100 * row[test]['mean']:.1f} ± {100 * row[test]['std']:.1f}" for test in tests]
        table.add_row(model, *cells, f"{100 * mean:.1f}", style="bold" if model.startswith("student") else "")
    return table


def plain_error(message: str) -> None:
    """An error as the user sees it."""
    print(f"error: {message}", file=sys.stderr, flush=True)
