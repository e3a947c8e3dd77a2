"""The report's charts: differences with their intervals, histograms, learning curves."""

from collections.abc import Sequence
from typing import Protocol

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nakt_fed.report.chart import FEW_PIXELS, HIGH_ENTROPY, INK, KEPT, SERIES, chart, short
from nakt_fed.report.run_files import Epoch


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
