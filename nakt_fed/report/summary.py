"""The report's first sentences: how good the student is, against whom, and on how many test sets by more than chance."""

from nakt_fed.classes import untitled
from nakt_fed.report.comparison import Difference, best_teacher, mean_dice
from nakt_fed.report.run_data import FinishedRun


def headline(run: FinishedRun) -> str:
    """The result in one sentence; a second one when the student was fine-tuned."""
    student = mean_dice(run, "student")
    if student is None:
        trained = f"A student was trained on {run.results['transferal']['kept']:,} pictures"
        titles = [title for title, score in run.results.get("at_sites", {}).items() if "refused" not in score]
        judged = list(dict.fromkeys(untitled(title)[0] for title in titles))
        if judged:
            return (
                f"{trained}; {', '.join(judged)} judged it on {'their' if len(judged) > 1 else 'its'} private pictures."
            )
        return f"{trained}; it was not tested, as the study names no test set."
    where = f"on {run.tests[0]}" if len(run.tests) == 1 else f"over {_sets(len(run.tests))}"
    told = _comparisons(run, student)
    tuned = mean_dice(run, "student+fine_tune")
    after = f" Fine-tuned on a few annotated pictures it reaches {tuned:.1f}\u00a0%." if tuned is not None else ""
    return f"The student reaches {student:.1f}\u00a0% mean Dice {where}{', ' if told else ''}{told}.{after}"


def _comparisons(run: FinishedRun, student: float) -> str:
    """ "3.1 points above the best teacher (logiq7, 68.1 %) and 1.0 below the ensemble"."""
    teacher, ensemble = best_teacher(run), mean_dice(run, "ensemble")
    parts = []
    if teacher:
        best = "best " if len(run.sites) > 1 else ""
        parts.append(
            _against(student, teacher[1], f"the {best}teacher ({teacher[0]}, {teacher[1]:.1f}\u00a0%)", " points")
        )
    if ensemble is not None:
        parts.append(_against(student, ensemble, "the ensemble", "" if parts else " points"))
    return " and ".join(parts)


def _against(student: float, score: float, whom: str, unit: str) -> str:
    points = round(student, 1) - round(score, 1)  # of the numbers as shown, so that a reader's subtraction agrees
    if abs(points) < 0.05:
        return f"level with {whom}"
    return f"{abs(points):.1f}{unit} {'above' if points > 0 else 'below'} {whom}"


def _sets(count: int) -> str:
    return f"{count} test set{'' if count == 1 else 's'}"


def evidence(run: FinishedRun, found: dict[str, list[Difference]]) -> str:
    """On how many test sets the difference from the best teacher is more than chance."""
    best = best_teacher(run)
    if best is None or mean_dice(run, "student") is None:
        return ""
    verdicts = [item.verdict for items in found.values() for item in items if item.other == f"teacher:{best[0]}"]
    better, worse = verdicts.count("better"), verdicts.count("worse")
    return (
        f"Picture by picture against {best[0]}, the 95 % interval of the difference lies above zero on "
        f"{better or 'none'} of {_sets(len(verdicts))} and below zero on {worse or 'none'}."
    )
