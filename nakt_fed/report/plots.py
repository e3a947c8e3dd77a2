"""Small charts as inline SVG: text stays text, colours follow the page's light or dark theme, ids never collide.

Matplotlib draws with stand-in colours; they become `currentColor` and the CSS variables of style.css. `Figure` objects
are used directly, never pyplot, so a notebook's own figures and backend are left alone.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any, Protocol

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nakt_fed.report.run_data import Epoch

INK, FAINT = "#010203", "#010204"
KEPT, FEW_PIXELS, HIGH_ENTROPY = "#0a0b01", "#0a0b02", "#0a0b03"
SERIES = [f"#0a0b{number:02x}" for number in (1, 2, 4, 5, 6, 3, 7, 8)]
CSS = {
    INK: "currentColor",
    FAINT: "var(--rule)",
    **{f"#0a0b{number:02x}": f"var(--c{number})" for number in range(1, 9)},
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nakt-fed",
    "text.parse_math": False,  # a folder may be called "$x$"
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.axisbelow": True,
}


def chart(key: str, alt: str, paint: Callable[[Axes], None], size: tuple[float, float] = (4.6, 2.8)) -> Markup:
    """An `<svg>` element. `key` makes its ids unique within the page; `alt` is read aloud in its place."""
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing", category=UserWarning
        )  # the browser has its own fonts
        figure = Figure(figsize=size, layout="constrained")
        paint(figure.add_subplot())
        buffer = StringIO()
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return Markup(_inline(buffer.getvalue(), key, alt))


def _inline(svg: str, key: str, alt: str) -> str:
    """Matplotlib's file as a part of a page: no prolog, no global style, only the ids that are used, theme colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)[\")]", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{key}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r"((?:href=\"|url\()#)", rf"\g<1>{key}-", svg)
    svg = re.sub(r" font-family:[^;\"]*;?", "", svg)
    svg = re.sub("|".join(CSS), lambda found: CSS[found[0]], svg)
    head = f'class="chart" role="img" aria-label="{escape(alt)}"'
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', lambda found: f"<svg {head} {found[1]}>", svg)
    return re.sub(r"\s*\n\s*", " ", svg.replace("xlink:href", "href"))


def short(name: str, letters: int = 22) -> str:
    """A name that fits beside an axis, cut in the middle."""
    return name if len(name) <= letters else f"{name[: letters // 2]}…{name[-letters // 2 + 1 :]}"


class Interval(Protocol):
    """A difference in points with its interval. `verdict`: "better", "worse" or something else."""

    @property
    def name(self) -> str: ...
    @property
    def mean(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def verdict(self) -> str: ...


def intervals(key: str, items: Sequence[Interval], limits: tuple[float, float], test: str) -> Markup:
    """Differences in points as dots with their 95 % intervals, a line at zero."""

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=0.8)
        for row, item in enumerate(items):
            colour = {"better": KEPT, "worse": FEW_PIXELS}.get(item.verdict, HIGH_ENTROPY)
            axes.plot([item.low, item.high], [row, row], color=colour, linewidth=2)
            axes.plot([item.mean], [row], "o", color=colour, markersize=6)
        axes.set_yticks(range(len(items)), [short(item.name, 30) for item in items])
        axes.set(ylim=(len(items) - 0.4, -0.6), xlim=limits, xlabel="difference in Dice points")
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)

    return chart(
        key,
        f"Differences of Dice on {test} with 95 % intervals; the table beside it has the numbers",
        paint,
        (4.6, 0.75 + 0.32 * len(items)),
    )


def histogram(
    key: str,
    alt: str,
    groups: Sequence[Sequence[float]],
    edges: Sequence[float],
    threshold: float | None,
    name: str,
    log: bool = False,
) -> Markup:
    """Stacked counts of kept, few-target and high-entropy pictures; the threshold as a dashed line."""

    def paint(axes: Axes) -> None:
        axes.hist(
            list(groups), bins=list(edges), stacked=True, histtype="stepfilled", color=[KEPT, FEW_PIXELS, HIGH_ENTROPY]
        )
        if threshold is not None:
            axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
        if log:
            axes.set_xscale("log")
            ticks = [0.5, *(10**power for power in range(7) if 10**power <= edges[-1])]
            axes.set_xticks(ticks, ["0", *(f"{tick:,}" for tick in ticks[1:])])
            axes.minorticks_off()
        axes.set(xlim=(edges[0], edges[-1]), xlabel=name, ylabel="pictures")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(axis="y")

    return chart(key, alt, paint, (4.7, 2.6))


def curves(key: str, histories: dict[str, list[Epoch]], what: str) -> Markup:
    """`what` ("loss" or "validation_dice") over the epochs, a line for each network."""
    percent = what == "validation_dice"

    def paint(axes: Axes) -> None:
        for colour, (name, epochs) in zip(SERIES, histories.items(), strict=False):
            points = [(epoch.epoch, getattr(epoch, what)) for epoch in epochs if getattr(epoch, what) is not None]
            steps, values = [x for x, _ in points], [100 * y if percent else y for _, y in points]
            axes.plot(
                steps, values, color=colour, linewidth=1.8, marker="o" if len(points) < 2 else "", label=short(name)
            )
        axes.set(xlabel="epoch", ylabel="validation Dice, %" if percent else "training loss")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(axis="y")
        if len(histories) > 1:
            axes.legend()

    return chart(key, f"{'Validation Dice' if percent else 'Training loss'} per epoch of {', '.join(histories)}", paint)
