"""From a run folder to report.html: read, compare, draw, fill the template, write whole or not at all."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nakt_fed.report import comparison, costs, filter_figures, gallery, summary
from nakt_fed.report.plots import curves, intervals
from nakt_fed.report.run_data import FinishedRun, open_run
from nakt_fed.report.run_files import Epoch
from nakt_fed.report.words import FILTERS, network, tables
from nakt_fed.whole_file import write_whole

CURVES = 8
"""Lines in one chart of training curves; more could not be told apart."""


def write_report(run: Path) -> Path:
    """Write `report.html` into a finished run's folder, from nothing but that folder, and return its path.

    The page is self-contained: pictures are data URIs, charts inline SVG, and no request leaves it.

    Raises:
        RunError: `run` is not the folder of a finished run.
    """
    return write_whole(Path(run) / "report.html", render(open_run(Path(run))))


def render(run: FinishedRun) -> str:
    """The page. Names of studies, sites and pictures are the users' own, so everything is escaped on its way in."""
    found = {test: comparison.differences(run, test) for test in run.tests}
    parts = [_result(run, found), _pictures(run), _transferal(run), _training(run), _cost(run)]
    context = {key: value for part in parts for key, value in part.items()}
    return environment().get_template("template.html.j2").render(run=run, results=run.results, **context)


def environment() -> Environment:
    """Jinja for the pages of this folder: what is filled in is escaped, and nothing may be missing."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= FILTERS
    return found


def _result(run: FinishedRun, found: dict[str, list[comparison.Difference]]) -> dict[str, Any]:
    ends = [end for items in found.values() for item in items for end in (item.low, item.high, 0.0)]
    limits = (min(ends) - 1, max(ends) + 1) if ends else (-1.0, 1.0)
    return {
        "headline": summary.headline(run),
        "evidence": summary.evidence(run, found),
        "student_dice": comparison.mean_dice(run, "student"),
        "best_teacher": comparison.best_teacher(run),
        "rows": comparison.dice_rows(run),
        "at_sites": run.results.get("at_sites", {}),
        "personalised": run.results.get("personalised", {}),
        "label": comparison.label,
        "pictures_in": {test: comparison.pictures_in(run, test) for test in run.tests},
        "differences": found,
        "intervals": {
            test: intervals(f"d{i}", items, limits, test) for i, (test, items) in enumerate(found.items()) if items
        },
    }


def _pictures(run: FinishedRun) -> dict[str, Any]:
    return {
        "galleries": gallery.test_galleries(run),
        "shown_sites": gallery.SITES,
        "shown_tests": gallery.TEST_SETS,
    }


def _transferal(run: FinishedRun) -> dict[str, Any]:
    """Of each class what the filter did."""
    return {
        "filtered": [
            {
                "label": part.label,
                "counts": filter_figures.counts(part),
                "histograms": filter_figures.histograms(part),
                "examples": filter_figures.examples(part),
                "soft": gallery.transferal_gallery(part),
            }
            for part in run.by_class
        ]
    }


def _training(run: FinishedRun) -> dict[str, Any]:
    students = {"Student": run.history(), "Fine-tuning": run.history("fine_tune")}
    teachers = {site: run.history(f"sites/{site}") for site in run.sites}
    return {
        "training": [item for item in (_curves("s", "Student", students), _curves("k", "Teachers", teachers)) if item]
    }


def _curves(key: str, title: str, histories: dict[str, list[Epoch]]) -> dict[str, Any] | None:
    """Loss and, where pictures were held out, validation Dice of those that were trained in this run."""
    trained = {name: epochs for name, epochs in histories.items() if epochs}
    shown = dict(list(trained.items())[:CURVES])
    if not shown:
        return None
    scored = {
        name: epochs for name, epochs in shown.items() if any(epoch.validation_dice is not None for epoch in epochs)
    }
    charts = [curves(f"{key}l", shown, "loss")] + ([curves(f"{key}v", scored, "validation_dice")] if scored else [])
    return {"title": title, "charts": charts, "left_out": len(trained) - len(shown)}


def _cost(run: FinishedRun) -> dict[str, Any]:
    return {
        "stages": costs.stages(run),
        "total_seconds": sum(run.results["seconds"].values()),
        "traffic": costs.traffic(run),
        "fedavg_ratio": costs.fedavg_ratio(run),
        "bits_per_pixel": costs.bits_per_pixel(run),
        "site_sums": costs.site_sums(run),
        "student_network": network(run.settings["student"]),
        "specs": {site["name"]: network(site["teacher"]) for site in run.settings["site"] if "teacher" in site},
        "tables": tables(run.settings),
    }
