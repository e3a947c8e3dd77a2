"""A table of ours with the paper's numbers beside it: as Markdown, as CSV, and in the terminal."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nakt_fed.metrics import Difference, paired_bootstrap, summary
from nakt_fed.paper.published import Pair

Dice = dict[str, Any]
"""A model on a test set, as a cell leaves it: mean, std, n, per_image {id: Dice}; fractions."""


@dataclass(frozen=True)
class Entry:
    """One place of a table: what was measured, seed by seed, and what the paper has. Empty where it was not measured."""

    ours: dict[int, Dice] = field(default_factory=dict)
    paper: Pair | None = None

    @property
    def mean(self) -> float | None:
        """Over the pictures of all seeds, in %."""
        values = self.values()
        return 100 * summary(values).mean if len(values) else None

    def values(self) -> Any:
        """Dice per picture, one seed after the other."""
        return np.array([value for dice in self.ours.values() for value in dice["per_image"].values()])

    def __str__(self) -> str:
        found = summary(self.values())
        ours = f"{100 * found.mean:.1f} ± {100 * found.std:.1f}" if found.n else "–"
        return f"{ours} ({self.paper[0]:.1f} ± {self.paper[1]:.1f})" if self.paper else ours


@dataclass(frozen=True)
class Table:
    """Rows of entries or words; `notes` say under what conditions, and what follows from the numbers."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Entry | str]]]
    notes: Sequence[str]


def markdown(table: Table) -> str:
    """The table in Markdown, its notes as a list below."""
    lines = [f"### {table.title}", "", f"| | {' | '.join(table.columns)} |", "|---" * (len(table.columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(map(str, entries))} |" for name, entries in table.rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes), ""])


def write_table(table: Table, out: Path) -> list[Path]:
    """<name>.md and <name>.csv (a line per seed, Dice in %) in `out`; returns the files."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{table.name}.md", out / f"{table.name}.csv"]
    paths[0].write_text(markdown(table), encoding="utf-8")
    with paths[1].open("w", newline="", encoding="utf-8") as file:
        sheet = csv.writer(file)
        sheet.writerow(["row", "column", "seed", "mean", "std", "n", "paper_mean", "paper_std"])
        sheet.writerows(_lines(table))
    return paths


def _lines(table: Table) -> list[list[Any]]:
    found: list[list[Any]] = []
    for row, entries in table.rows:
        for column, entry in zip(table.columns, entries, strict=True):
            if isinstance(entry, str):
                found.append([row, column, "", entry])
                continue
            paper = entry.paper or ("", "")
            each = [[seed, 100 * d["mean"], 100 * d["std"], d["n"]] for seed, d in entry.ours.items()]
            found += [[row, column, *numbers, *paper] for numbers in each or [["", "", "", ""]]]
    return found


def print_table(table: Table) -> None:
    """In the terminal."""
    from rich.console import Console
    from rich.table import Table as Grid

    grid = Grid(title=table.title, title_justify="left")
    for name in ("", *table.columns):
        grid.add_column(name)
    for name, entries in table.rows:
        grid.add_row(name, *map(str, entries))
    console = Console()
    console.print(grid)
    for note in table.notes:
        console.print(f"• {note}", markup=False, highlight=False)


def difference(first: Sequence[Entry], second: Sequence[Entry]) -> str:
    """Mean over pictures of first − second in points with its 95 % interval; pairs of which one is missing are left out.

    The same picture under several networks or seeds counts as one, with the mean of its differences.
    """
    per_picture: dict[str, list[float]] = {}
    for a, b in zip(first, second, strict=True):
        for seed in a.ours.keys() & b.ours.keys():
            left, right = a.ours[seed]["per_image"], b.ours[seed]["per_image"]
            for picture in left.keys() & right.keys():
                per_picture.setdefault(picture, []).append(left[picture] - right[picture])
    if not per_picture:
        return "not measured"
    means = [float(np.mean(per_picture[picture])) for picture in sorted(per_picture)]
    return signed(paired_bootstrap(means, [0.0] * len(means)))


def signed(found: Difference) -> str:
    """`+1.2 (95 %: −0.3 to +2.6)`, in points."""
    mean, low, high = (f"{100 * value:+.1f}".replace("-", "−") for value in found)
    return f"{mean} (95 %: {low} to {high})"
