"""sweep.html: leaderboard, interval plot and the same pictures under every scheme; with the tables as CSV and Parquet."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from nakt_fed.metrics import dice
from nakt_fed.report.gallery import Line
from nakt_fed.report.page import environment
from nakt_fed.report.pictures import Picture, Tile, data_uri, outline
from nakt_fed.report.plots import intervals
from nakt_fed.statistics.leaderboard import Entry, Leaderboard
from nakt_fed.statistics.tables import leaderboard_rows, p_value, pair_rows, ranks, write_parquet
from nakt_fed.whole_file import write_csv, write_whole

Gray = NDArray[np.uint8]
SCRIPT = (Path(__file__).parent / "sort.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Shown:
    """A picture (H, W) uint8, its truth (0 or 255) where there is one, and its mask (H, W) uint8 under every cell."""

    title: str
    picture: Gray
    truth: Gray | None
    masks: Mapping[str, Gray]


@dataclass(frozen=True)
class Beside:
    """A line of the interval plot."""

    name: str
    mean: float
    low: float
    high: float
    verdict: str


def write_sweep(board: Leaderboard, folder: Path, *, title: str = "Sweep", shown: Sequence[Shown] = ()) -> Path:
    """Write sweep.html, leaderboard.csv, pairs.csv and both as .parquet into `folder`; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in {"leaderboard": leaderboard_rows(board), "pairs": pair_rows(board)}.items():
        write_csv(folder / f"{name}.csv", list(rows[0]), (list(row.values()) for row in rows))
        write_parquet(rows, folder / f"{name}.parquet")
    return write_whole(folder / "sweep.html", render_sweep(board, title, shown))


def render_sweep(board: Leaderboard, title: str, shown: Sequence[Shown] = ()) -> str:
    """The page. Names are the users' own, so everything is escaped on its way in."""
    keys = telling(board)
    return (
        environment()
        .get_template("sweep.html.j2")
        .render(
            board=board,
            title=title,
            headline=headline(board),
            keys=keys,
            sets=list(board.block.test_sets),
            titles=_titles(board, keys),
            several_seeds=len(board.block.seeds) > 1,
            chosen=len(board.pairs) < len(board.entries) * (len(board.entries) - 1) // 2,
            plot=_plot(board),
            pairs=pair_rows(board),
            p_value=p_value,
            ranks=ranks,
            pictures=[Picture(f"s{i}", data_uri(one.picture)) for i, one in enumerate(shown)],
            lines=[Line(one.title, _tiles(f"s{i}", one)) for i, one in enumerate(shown)],
            has_truth=any(one.truth is not None for one in shown),
            script=Markup(SCRIPT),
            script_hash=script_hash(SCRIPT),
        )
    )


def telling(board: Leaderboard) -> list[str]:
    """The settings that differ between the cells and are not just their names; the tables have all."""
    keys = sorted({key for entry in board.entries for key in entry.settings})
    values = {key: [entry.settings.get(key, "") for entry in board.entries] for key in keys}
    names = [entry.cell for entry in board.entries]
    return [key for key in keys if len(set(map(str, values[key]))) > 1 and values[key] != names]


def script_hash(script: str) -> str:
    """The source that the page's policy allows: this script and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def headline(board: Leaderboard) -> str:
    """Who is best, and from whom it can be told apart, in a sentence."""
    best, *others = board.entries
    tied = [board.entries[rank - 1].cell for rank in best.alike]
    compared = {
        cell for pair in board.pairs for cell in (pair.first, pair.second) if best.cell in (pair.first, pair.second)
    }
    beaten = sum(entry.cell in compared and entry.cell not in tied for entry in others)
    words = f"{best.cell} has the highest mean Dice, {best.mean:.1f}\u00a0%"
    alike = f"It cannot be told apart from {_listed(tied)}" if tied else ""
    worse = f"significantly better than {beaten} of the {len(others)} others" if beaten else ""
    if alike and worse:
        return f"{words}. {alike}, and is {worse}."
    return f"{words}. {alike}." if alike else f"{words}, {worse}."


def _listed(names: list[str]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _titles(board: Leaderboard, keys: list[str]) -> list[str]:
    sets = list(board.block.test_sets)
    seeds = ["Seeds"] if len(board.block.seeds) > 1 else []
    return [
        "Rank", "Cell", *keys, *(sets if len(sets) > 1 else []), "Mean Dice", *seeds,
        "Points", "95 % interval", "p", "Not told apart from",
    ]  # fmt: skip


def _plot(board: Leaderboard) -> Markup:
    items = [_beside(entry) for entry in board.entries if entry.difference]
    ends = [end for item in items for end in (item.low, item.high, 0.0)]
    return intervals("i", items, (min(ends) - 0.5, max(ends) + 0.5), "all test sets")


def _beside(entry: Entry) -> Beside:
    pair = entry.difference
    assert pair
    verdict = "inconclusive" if not pair.significant else "better" if pair.mean > 0 else "worse"
    return Beside(entry.cell, pair.mean, pair.low, pair.high, verdict)


def _tiles(key: str, one: Shown) -> list[Tile]:
    truth = "" if one.truth is None else outline(one.truth)
    tiles = [Tile("picture", "The picture alone", key)]
    for cell, mask in one.masks.items():
        value = "" if one.truth is None else _dice(mask, one.truth)
        tiles.append(Tile(cell, f"Mask under {cell}", key, mask=outline(mask), truth=truth, value=value))
    return tiles


def _dice(mask: Gray, truth: Gray) -> str:
    return f"{100 * dice(mask[None] > 127, truth[None] > 127)[0]:.1f}"
