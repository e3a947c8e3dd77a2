"""What a finished run says on the terminal."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from nakt_fed.cli.words import many, size

WIDE = 200
"""Columns where there is no terminal: a log file has no edge."""
NO_BREAK = "\u00a0"


def print_results(run: Path, console: Console | None = None) -> None:
    """The Dice table of a finished run, how much was kept and moved, and where the report is."""
    console = console or Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDE
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    tests = list(dict.fromkeys(test for row in results["dice"].values() for test in row))
    if tests:
        console.print("\nDice on the test sets, mean ± std over pictures, in %")
        console.print(dice_table(results["dice"], tests))
    if results.get("at_sites"):
        console.print("\nDice at the sites, on private pictures that nobody else can use, mean ± std in %")
        console.print(at_sites_table(results["at_sites"]))
    if results.get("personalised"):
        console.print(
            "\nPersonalised at the sites: Dice on other private pictures than it learned from, mean ± std in %"
        )
        console.print(at_sites_table(results["personalised"], ("teacher", "student", "personalised")))
    shared, back = results["transferal"], size(results["bytes"]["back"])
    lines = [f"! without site {site}{_used(results, site)}: {why}" for site, why in results["set_aside"].items()]
    lines += [f"class {label}: {told['kept']} pictures kept" for label, told in results.get("classes", {}).items()]
    lines.append(f"{shared['kept']} of {many(shared['images'], 'transferal picture')} kept; {back} of masks came back")
    lines.append(f"report: {run / 'report.html'}")
    console.print("\n".join(lines), soft_wrap=True, markup=False)


def _used(results: dict[str, Any], site: str) -> str:
    """What had come of a site that was set aside."""
    count = results.get("answered", {}).get(site, 0)
    if not count:
        return ""
    used = "used" if site in results["weights"] else "not used"
    return f" ({count} of {many(results['transferal']['images'], 'picture')} answered, {used})"


def dice_table(dice: dict[str, Any], tests: list[str]) -> Table:
    """One row per model, one column per test set; names of test sets are folded where the terminal is narrow."""
    table = Table(Column("", no_wrap=True), box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    several = ["mean"] if len(tests) > 1 else []
    for test in [*tests, *several]:
        table.add_column(test, justify="right", overflow="fold")
    for model, row in dice.items():
        cells = [_spread(row[test]) if test in row else "–" for test in tests]
        mean = (
            f"{100 * math.fsum(row[test]['mean'] for test in tests) / len(tests):.1f}"
            if set(row) == set(tests)
            else "–"
        )
        table.add_row(
            model,
            *cells,
            *([mean] if several else []),
            style="bold" if model.startswith("student") else "",
        )
    return table


def at_sites_table(at_sites: dict[str, Any], models: Sequence[str] = ("student", "teacher")) -> Table:
    """One row per site: how many pictures, the models on them, or why it tells nothing."""
    table = Table(Column("", no_wrap=True), box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in ("pictures", *models):
        table.add_column(title, justify="right")
    for site, score in at_sites.items():
        cells = [score["refused"]] if "refused" in score else [str(score["n"])]
        cells += [_spread(score[name]) for name in models if name in score]
        table.add_row(site, *cells)
    return table


def _spread(score: dict[str, float]) -> str:
    return f"{100 * score['mean']:.1f} ± {100 * score['std']:.1f}".replace(" ", NO_BREAK)
