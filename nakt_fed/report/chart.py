"""A small chart as inline SVG: text stays text, colours follow the page's light or dark theme, ids never collide.

Matplotlib draws with stand-in colours; they become `currentColor` and the CSS variables of style.css. `Figure` objects
are used directly, never pyplot, so a notebook's own figures and backend are left alone.
"""

import re
import warnings
from collections.abc import Callable
from io import StringIO
from typing import Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
