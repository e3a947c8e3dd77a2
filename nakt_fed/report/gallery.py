"""Pictures with what everyone saw in them: test pictures with outlines, transferal pictures with soft masks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import zarr

from nakt_fed.classes import planes, untitled
from nakt_fed.report.comparison import label
from nakt_fed.report.filter_figures import by_folder, typical, why
from nakt_fed.report.pictures import Picture, Tile, data_uri, outline
from nakt_fed.report.run_data import FinishedRun, folder_of

TEST_SETS, SITES, FOLDERS = 6, 8, 6
"""At most so many are shown, the first ones, so that the page can be mailed; it says what it leaves out."""


@dataclass(frozen=True)
class Line:
    """One picture: what it stands for, and its tiles."""

    title: str
    tiles: list[Tile]


@dataclass(frozen=True)
class Gallery:
    """`pictures` are embedded once; the tiles of `lines` refer to them."""

    name: str
    lines: list[Line] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


def test_galleries(run: FinishedRun) -> list[Gallery]:
    """Best, median and worst picture of the student for each of the first test sets whose pictures are still there."""
    found = (_test_gallery(run, number, test) for number, test in enumerate(run.tests[:TEST_SETS]))
    return [gallery for gallery in found if gallery]


test_galleries.__test__ = False  # type: ignore[attr-defined]  # pytest would take the name for a test


def _test_gallery(run: FinishedRun, number: int, test: str) -> Gallery | None:
    name, class_ = untitled(test)
    run, [truth] = replace(run, label=class_), planes("truth", (class_,))
    pictures, masks = run.store(f"tests/{name}/pictures.zarr"), run.store(f"tests/{name}/masks.zarr")
    scores = run.results["dice"].get("student", {}).get(test)
    if pictures is None or masks is None or not scores:
        return None
    ids: list[str] = list(pictures.attrs["ids"])  # type: ignore[arg-type]
    gallery = Gallery(test)
    for place, chosen in _extremes(run, test, lambda picture: bool(_at(pictures, truth, ids.index(picture)).any())):
        key, row = f"t{number}-{place}", ids.index(chosen)
        gallery.pictures.append(Picture(key, data_uri(_at(pictures, "images", row))))
        # a site's held-out pictures are private: they are shown on the machine that has them, never named
        called = place if test in run.held_out else f"{place}: {chosen}"
        outlined = outline(_at(pictures, truth, row))
        gallery.lines.append(Line(called, _test_tiles(run, test, chosen, key, outlined, masks, row)))
    return gallery


def _extremes(run: FinishedRun, test: str, has_target: Callable[[str], bool]) -> list[tuple[str, str]]:
    """(place, id) of the student's best, median and worst picture, without repeating one in a very small set.

    Among equals the one on which the others are worst comes first. The best picture is one with a target where there is
    one: an empty mask of an empty picture has Dice 1 and nothing to look at.
    """
    tables = {
        model: run.results["dice"][model][test]["per_image"]
        for model in run.models
        if test in run.results["dice"][model]
    }
    own = tables["student"]
    ranked = sorted(own, key=lambda picture: (-own[picture], sum(table[picture] for table in tables.values()), picture))
    places = {
        "best": next(filter(has_target, ranked), ranked[0]),
        "median": ranked[len(ranked) // 2],
        "worst": ranked[-1],
    }
    return [
        (place, picture)
        for place, picture in places.items()
        if list(places.values()).index(picture) == list(places).index(place)
    ]


def _test_tiles(
    run: FinishedRun, test: str, picture: str, key: str, truth: str, masks: zarr.Group, row: int
) -> list[Tile]:
    tiles = [
        Tile("picture", "The picture alone", key),
        Tile("ground truth", "Outline of the ground truth", key, truth=truth),
    ]
    shown = [f"teacher:{site}" for site in run.sites[:SITES]] + ["ensemble", "student", "student+fine_tune"]
    for model in shown:
        name, score = model.removeprefix("teacher:"), run.results["dice"].get(model, {}).get(test)
        if score and run.stack(name) in masks:
            dice = f"{100 * score['per_image'][picture]:.1f}"
            seen = outline(_at(masks, run.stack(name), row))
            alt = f"{label(model)}: {'outline' if seen else 'no target found'}, Dice {dice} %"
            tiles.append(Tile(_caption(model), alt, key, mask=seen, truth=truth, value=dice))
    return tiles


def _caption(model: str) -> str:
    return {"student+fine_tune": "fine-tuned"}.get(model, model.removeprefix("teacher:"))


def transferal_gallery(run: FinishedRun) -> Gallery | None:
    """For each of the first folders a typical kept picture, and one view: every site's soft mask and their fusion."""
    pictures, masks = run.store("pictures.zarr"), run.store("masks.zarr")
    if pictures is None or masks is None or run.pseudo is None:
        return None
    groups = [[v for v in verdicts if v.kept] for verdicts in by_folder(run).values()][:FOLDERS]
    groups.append([v for v in run.verdicts if v.kept and run.is_view(v.id)])
    gallery = Gallery("transferal")
    for verdict in dict.fromkeys(typical(run, group) for group in groups):
        if verdict:
            kind = "view in" if run.is_view(verdict.id) else "from"
            row = run.rows[verdict.id]
            gallery.lines.append(
                Line(f"{kind} {folder_of(verdict.id)}: {why(verdict)}", list(_soft_tiles(run, pictures, masks, row)))
            )
    return gallery


def _soft_tiles(run: FinishedRun, pictures: zarr.Group, masks: zarr.Group, row: int) -> Iterable[Tile]:
    yield Tile("picture", "Transferal picture", uri=data_uri(_at(pictures, "images", row)))
    for site in run.sites[:SITES]:
        if run.stack(site) in masks:
            yield Tile(site, f"Soft mask of site {site}", uri=data_uri(_at(masks, run.stack(site), row)))
    assert run.pseudo is not None
    yield Tile("pseudo mask", "The fused pseudo mask", uri=data_uri(np.asarray(run.pseudo[row])))


def _at(group: zarr.Group, name: str, row: int) -> np.ndarray:
    return np.asarray(group[name][row])  # type: ignore[index]
