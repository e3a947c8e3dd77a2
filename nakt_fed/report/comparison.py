"""Who is how good, from the Dice values of results.json: the table and the paired differences."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from nakt_fed.metrics import paired_bootstrap
from nakt_fed.report.run_data import FinishedRun

LABELS = {"ensemble": "Ensemble of the teachers", "student": "Student", "student+fine_tune": "Student, fine-tuned"}


def label(model: str) -> str:
    """Name of a model for people."""
    return LABELS.get(model) or f"Teacher {model.removeprefix('teacher:')}"


def _short(model: str) -> str:
    return "fine-tuned" if model == "student+fine_tune" else model.removeprefix("teacher:")


@dataclass(frozen=True)
class Cell:
    """Dice on one test set (or the mean over all: no `std` then), in %."""

    mean: float
    std: float | None
    best: bool


@dataclass(frozen=True)
class Row:
    model: str
    cells: list[Cell | None]
    mean: Cell | None


@dataclass(frozen=True)
class Difference:
    """Mean of Dice(subject) − Dice(other) over the pictures of a test set, in points, with its 95 % interval."""

    subject: str
    other: str
    pictures: int
    mean: float
    low: float
    high: float

    @property
    def name(self) -> str:
        """What is subtracted from what: "student − logiq7"."""
        return f"{_short(self.subject)} − {_short(self.other)}"

    @property
    def verdict(self) -> str:
        return "better" if self.low > 0 else "worse" if self.high < 0 else "inconclusive"


def mean_dice(run: FinishedRun, model: str) -> float | None:
    """Mean over the test sets of a model's mean Dice, in %; None when it was not tested on all of them."""
    scores = run.results["dice"].get(model, {})
    return (
        100 * fmean(scores[test]["mean"] for test in run.tests) if run.tests and set(scores) == set(run.tests) else None
    )


def dice_rows(run: FinishedRun) -> list[Row]:
    """The Dice table: a row for each model, a cell for each test set, then the mean over the test sets."""
    dice, tests = run.results["dice"], run.tests
    top = {test: max(dice[model][test]["mean"] for model in run.models if test in dice[model]) for test in tests}
    means = {model: mean_dice(run, model) for model in run.models}
    best = max((value for value in means.values() if value is not None), default=None)
    rows = []
    for model in run.models:
        cells = [_cell(dice[model].get(test), top[test]) for test in tests]
        value = means[model]
        rows.append(Row(model, cells, None if value is None else Cell(value, None, value == best)))
    return rows


def _cell(score: dict[str, Any] | None, top: float) -> Cell | None:
    return Cell(100 * score["mean"], 100 * score["std"], score["mean"] == top) if score else None


def pictures_in(run: FinishedRun, test: str) -> int:
    """Pictures of a test set."""
    return max(int(scores[test]["n"]) for scores in run.results["dice"].values() if test in scores)


def differences(run: FinishedRun, test: str) -> list[Difference]:
    """The student against each teacher and the ensemble, then the fine-tuned student against the student."""
    pairs = [("student", model) for model in run.models if model not in ("student", "student+fine_tune")]
    pairs.append(("student+fine_tune", "student"))
    dice = run.results["dice"]
    return [
        _difference(run, subject, other, test)
        for subject, other in pairs
        if test in dice.get(subject, {}) and test in dice.get(other, {})
    ]


def _difference(run: FinishedRun, subject: str, other: str, test: str) -> Difference:
    a, b = (run.results["dice"][model][test]["per_image"] for model in (subject, other))
    ids = [key for key in a if key in b]
    low_to_high = paired_bootstrap(
        np.array([a[i] for i in ids]), np.array([b[i] for i in ids]), int(run.results["seed"])
    )
    mean, low, high = (100 * float(value) for value in low_to_high)
    return Difference(subject, other, len(ids), mean, low, high)


def best_teacher(run: FinishedRun) -> tuple[str, float] | None:
    """Site and mean Dice (%) of the teacher with the highest mean over the test sets."""
    scores = [(site, mean_dice(run, f"teacher:{site}")) for site in run.sites]
    known = [(site, score) for site, score in scores if score is not None]
    return max(known, key=lambda item: item[1], default=None)
