"""A figure of the paper from our pictures: a self-contained page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from nakt_fed.filtering import Verdict
from nakt_fed.report.filter_figures import RULES
from nakt_fed.report.gallery import Line
from nakt_fed.report.page import environment
from nakt_fed.report.plots import histogram
from nakt_fed.whole_file import write_whole

Chart = tuple[str, str, Markup]
"""Name, words, drawing."""


def write_figure(
    path: Path, title: str, notes: Sequence[str], lines: Sequence[Line] = (), charts: Sequence[Chart] = ()
) -> Path:
    """Write the page, whole or not at all, and return its path."""
    page = (
        environment().get_template("paper_figure.html.j2").render(title=title, notes=notes, lines=lines, charts=charts)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, page)


def entropy_chart(key: str, name: str, verdicts: Sequence[Verdict], beta: float) -> Chart:
    """Entropy of the pseudo masks of a transferal set, coloured by what the filter said, β as a dashed line."""
    bits = [verdict.E or 0.0 for verdict in verdicts]
    low, middle, high = np.percentile(bits, [25, 50, 75])
    words = f"{len(bits)} pictures, quartiles {low:.2f}, {middle:.2f} and {high:.2f} bits, {np.mean(np.array(bits) > beta):.0%} above β"
    groups = [[verdict.E or 0.0 for verdict in verdicts if verdict.rule == rule] for rule in RULES]
    drawn = histogram(
        key, f"Entropy in {name}: {words}", groups, np.linspace(0, 8, 33).tolist(), beta, "entropy E, bits"
    )
    return name, words, drawn
