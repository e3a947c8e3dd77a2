"""Figures 1 to 3 of the paper. Like a table, a figure asks for the cells that it shows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from nakt_fed.data.listing import list_pictures
from nakt_fed.data.pictures import read_gray, resize_image
from nakt_fed.filtering import Verdict
from nakt_fed.paper.sets import TITLES, label
from nakt_fed.report.filter_figures import RULES, why
from nakt_fed.report.gallery import Line
from nakt_fed.report.paper_figure import entropy_chart, write_figure
from nakt_fed.report.pictures import SIDE, Tile, data_uri
from nakt_fed.store import open_group
from simulation.cells import Made

from .pseudo import numbers
from .tables import Maker

Figure = Callable[[Maker, Path], Path | None]
"""Writes a page; None where nothing of it is measured yet."""


def verdicts_of(maker: Maker, transferal: str) -> tuple[Made, list[Verdict], float] | None:
    """The mask round, what the filter said of each picture, and β."""
    made, kept = (maker.get(cell) for cell in (maker.seeds[0].single(transferal), maker.seeds[0].kept(transferal)))
    if made is None or kept is None:
        return None
    verdicts = [replace(verdict, rule=kept.result["rules"].get(verdict.id, "")) for verdict in numbers(made)]
    return made, verdicts, kept.result["beta"]


def exclusions(maker: Maker, path: Path) -> Path | None:
    """Figure 1: of each verdict one picture of VOC with its pseudo mask."""
    transferal = "voc" if "voc" in maker.sets.transferal() else maker.sets.transferal()[-1]
    found = verdicts_of(maker, transferal)
    if found is None:
        return None
    made, verdicts, beta = found
    pictures = open_group(made.place / "pictures.zarr")["images"]
    masks = open_group(made.place / "masks.zarr")["pseudo"]
    lines = []
    for rule, name in RULES.items():
        rows = sorted((row for row, v in enumerate(verdicts) if v.rule == rule), key=lambda row: verdicts[row].E or 0.0)
        if rows:
            row = rows[len(rows) // 2]
            tiles = [
                Tile(caption, f"{caption}: {why(verdicts[row])}", uri=data_uri(np.asarray(stack[row])))  # type: ignore[index]
                for caption, stack in (("picture", pictures), ("pseudo mask", masks))
            ]
            lines.append(Line(f"{name} ({len(rows)} of {len(verdicts)}): {why(verdicts[row])}", tiles))
    title = f"Figure 1: pseudo masks of breast lesions in {TITLES[transferal]}"
    return write_figure(
        path, title, [*maker.conditions, f"of each verdict the median picture by entropy; β = {beta:.2f} bits"], lines
    )


def examples(maker: Maker, path: Path) -> Path | None:
    """Figure 2: one picture of each set, the middle one by name."""
    tiles = []
    for name, found in maker.sets.there():
        files = list_pictures(found.images)
        gray = resize_image(read_gray(files[len(files) // 2]), SIDE)
        tiles.append(Tile(f"{TITLES[name]}: {label(found)}", f"A picture of {label(found)}", uri=data_uri(gray)))
    return write_figure(path, "Figure 2: one picture of each data set", [], [Line("stretched to a square", tiles)])


def entropies(maker: Maker, path: Path) -> Path | None:
    """Figure 3: the entropy of the pseudo masks, set by set."""
    charts = []
    for number, transferal in enumerate(maker.sets.transferal()):
        if found := verdicts_of(maker, transferal):
            _, verdicts, beta = found
            charts.append(entropy_chart(f"e{number}", TITLES[transferal], verdicts, beta))
    title = "Figure 3: entropy of the pseudo masks"
    return write_figure(path, title, [*maker.conditions, maker.beta], charts=charts) if charts else None


FIGURES: dict[str, Figure] = {"figure1": exclusions, "figure2": examples, "figure3": entropies}
