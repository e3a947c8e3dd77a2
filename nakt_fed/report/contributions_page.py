"""contributions.html: what each site brought, how the sites agree, how sure they may be, where they differ."""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from nakt_fed.contributions.answers import Disagreement
from nakt_fed.contributions.gather import originals
from nakt_fed.replay.stored import StoredRun
from nakt_fed.report.chart import INK, SERIES, chart, short
from nakt_fed.report.gallery import Line
from nakt_fed.report.page import environment
from nakt_fed.report.pictures import Tile, data_uri, heat_uri
from nakt_fed.report.plots import intervals
from nakt_fed.report.words import points
from nakt_fed.whole_file import write_whole

PICTURES, SITES = 6, 8
"""Pictures on which the sites differ most, and sites beside them, that are shown."""


@dataclass(frozen=True)
class Share:
    """A site's contribution in points, as a line of the interval plot."""

    name: str
    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        return "better" if self.low > 0 else "worse" if self.high < 0 else "inconclusive"


def write_contributions(run: StoredRun, found: dict[str, Any], folder: Path) -> Path:
    """Write contributions.html into `folder` and return its path."""
    return write_whole(folder / "contributions.html", render(run, found))


def render(run: StoredRun, found: dict[str, Any]) -> str:
    """The page. Names are the users' own, so everything is escaped on its way in."""
    shares = {key: _shares(found[key]) for key in ("shapley", "leave_one_out")}
    students = found.get("students")
    if students:
        shares["students"] = _shares(students["leave_one_out"])
    mean, lines = differences(run)
    return (
        environment()
        .get_template("contributions.html.j2")
        .render(
            found=found,
            headline=headline(found),
            plots={key: _plot(f"c{i}", items) for i, (key, items) in enumerate(shares.items())},
            calibration=calibration_chart(found["calibration"]),
            mean_map=Tile(
                "mean over the pictures", "Where the sites differ, on average", uri=heat_uri(mean, float(mean.max()))
            ),
            most=float(mean.max()),
            lines=lines,
            shown_sites=SITES,
        )
    )


def headline(found: dict[str, Any]) -> str:
    """Who brought most, in a sentence."""
    order = sorted(found["sites"], key=lambda site: -found["shapley"][site]["mean"])
    whole = 100 * found["everyone"]["mean"]
    best, last = (100 * found["shapley"][site]["mean"] for site in (order[0], order[-1]))
    words = f"Together the sites reach {whole:.1f}\u00a0% pseudo-mask Dice"
    if len(order) == 1:
        return f"{words}, with one site."
    return f"{words}: {order[0]} brought most ({points(best)} points), {order[-1]} least ({points(last)})."


def _shares(table: Mapping[str, Mapping[str, Any]]) -> list[Share]:
    return [Share(site, *(100 * told[key] for key in ("mean", "low", "high"))) for site, told in table.items()]


def _plot(key: str, items: list[Share]) -> Markup:
    ends = [end for item in items for end in (item.low, item.high, 0.0)]
    return intervals(key, items, (min(ends) - 0.5, max(ends) + 0.5), "all test sets")


def calibration_chart(table: Mapping[str, Mapping[str, Any]]) -> Markup:
    """The share of pixels that are a target over the probability that a site gave them; the diagonal is perfect."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
        for colour, (site, told) in zip(SERIES, table.items(), strict=False):
            pairs = [(x, y) for x, y in zip(told["given"], told["target"], strict=True) if x is not None]
            axes.plot(
                *zip(*pairs, strict=True), color=colour, linewidth=1.6, marker="o", markersize=3, label=short(site)
            )
        axes.set(xlabel="probability given", ylabel="share that is a target", xlim=(0, 1), ylim=(0, 1))
        axes.grid()
        axes.legend()

    return chart("k", f"Calibration curves of {', '.join(table)}", paint, (4.6, 4.0))


def differences(run: StoredRun) -> tuple[np.ndarray, list[Line]]:
    """The mean map of the sites' disagreement (H, W), and the pictures with most of it, each with every site's mask."""
    total, worst, row = Disagreement(), [], 0
    for chunk in originals(run):
        for spread in total.add(chunk.values()):
            worst.append((float(spread.mean()), row))
            row += 1
    chosen = [row for _, row in heapq.nlargest(PICTURES, worst)]
    return total.mean, [_line(run, row) for row in chosen]


def _line(run: StoredRun, row: int) -> Line:
    shared = run.transferal
    masks = {site: np.asarray(shared.masks.stack(site)[row]) for site in run.active}
    spread = Disagreement().add(mask[None] for mask in masks.values())[0]
    tiles = [
        Tile("picture", "Transferal picture", uri=data_uri(np.asarray(shared.images[row]))),
        Tile("disagreement", "Where the sites differ", uri=heat_uri(spread, 0.5), value=f"{spread.mean():.3f}"),
        *(Tile(site, f"Soft mask of {site}", uri=data_uri(mask)) for site, mask in list(masks.items())[:SITES]),
    ]
    return Line(shared.manifest.ids[row], tiles)
