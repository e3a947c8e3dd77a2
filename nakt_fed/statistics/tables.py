"""The leaderboard and the pairs as tables: for the terminal, as CSV and as Parquet."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from nakt_fed.report.words import points
from nakt_fed.statistics.leaderboard import Entry, Leaderboard
from nakt_fed.whole_file import draft_of

NO_BREAK = "\u00a0"


def terminal_table(board: Leaderboard) -> Table:
    """One line per cell; bold are the reference and those that cannot be told apart from it."""
    table = Table(Column("", justify="right"), Column("cell"), box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    several = len(board.block.test_sets) > 1
    titles = [*(board.block.test_sets if several else ()), "mean Dice, %", f"− {board.reference}", "95 % interval", "p"]
    for title in [*titles, "not told apart from"]:
        table.add_column(title, justify="right", overflow="fold")
    for entry in board.entries:
        sets = [f"{value:.1f}" for value in entry.per_set.values()] if several else []
        alike = ranks(entry.alike)
        style = "bold" if entry.tied else ""
        table.add_row(str(entry.rank), entry.cell, *sets, f"{entry.mean:.1f}", *_difference(entry), alike, style=style)
    return table


def _difference(entry: Entry) -> tuple[str, str, str]:
    pair = entry.difference
    if pair is None:
        return "", "", ""
    return points(pair.mean), f"{points(pair.low)} to {points(pair.high)}".replace(" ", NO_BREAK), p_value(pair.p_holm)


def p_value(p: float) -> str:
    """A corrected p for people: 0.0312 -> "0.031", tiny ones "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def ranks(alike: tuple[int, ...]) -> str:
    """(2, 3, 4, 7) -> "2–4, 7"; nothing: "–"."""
    parts: list[list[int]] = []
    for rank in alike:
        if parts and rank == parts[-1][-1] + 1:
            parts[-1].append(rank)
        else:
            parts.append([rank])
    return ", ".join(f"{part[0]}–{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts) or "–"


def leaderboard_rows(board: Leaderboard) -> list[dict[str, Any]]:
    """The leaderboard as flat rows: Dice in %, differences in points; settings as columns `settings.<key>`."""
    keys = sorted({key for entry in board.entries for key in entry.settings})
    return [_flat(entry, keys) for entry in board.entries]


def _flat(entry: Entry, keys: list[str]) -> dict[str, Any]:
    pair = entry.difference
    return {
        "rank": entry.rank,
        "cell": entry.cell,
        **{f"settings.{key}": _scalar(entry.settings.get(key)) for key in keys},
        "mean": entry.mean,
        "std": entry.std,
        "seed_std": entry.seed_std,
        **{f"dice.{name}": value for name, value in entry.per_set.items()},
        "difference": pair.mean if pair else None,
        **{name: getattr(pair, name, None) for name in ("low", "high", "p", "p_holm")},
        "tied": entry.tied,
        "not_told_apart_from": " ".join(map(str, entry.alike)),
    }


def _scalar(value: Any) -> str | None:
    """Settings of several kinds may stand in one column: as text."""
    return None if value is None else str(value)


def pair_rows(board: Leaderboard) -> list[dict[str, Any]]:
    """All comparisons, differences in points."""
    return [
        {
            "first": pair.first,
            "second": pair.second,
            "difference": 100 * pair.mean,
            "low": 100 * pair.low,
            "high": 100 * pair.high,
            "p": pair.p,
            "p_holm": pair.p_holm,
            "significant": pair.significant,
        }
        for pair in board.pairs
    ]


def write_parquet(rows: list[dict[str, Any]], path: Path) -> Path:
    """Rows with the same keys as Parquet (pyarrow comes with Ray), whole or not at all."""
    import pyarrow
    import pyarrow.parquet

    with draft_of(path) as draft:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), draft)
    return path
