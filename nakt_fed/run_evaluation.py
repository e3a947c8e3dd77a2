"""The last act of a run: Dice of every teacher, their ensemble and the student, and the report of it all."""

from typing import TYPE_CHECKING

from nakt_fed import run_tests
from nakt_fed.at_sites import Told, judged_at_sites
from nakt_fed.results import write_results
from nakt_fed.withdrawal_proof import complete_proofs

if TYPE_CHECKING:
    from nakt_fed.run import Run


def evaluate(run: "Run") -> None:
    """results.json, and report.html from it."""
    with run.stage("evaluation"):
        dice = run_tests.united(_dice(run, label) for label in run.study.classes)
        at_sites = _judged(run) if run.study.round.judge_student else {}
    write_results(run, dice, at_sites, run.personalised)
    from nakt_fed.report import write_report  # plotting is slow to import and not needed before

    with run.stage("report"):
        write_report(run.folder)
    complete_proofs(run.folder)


def _dice(run: "Run", label: str) -> run_tests.DiceTable:
    """Of one class."""
    names, tests = run.knowing(run.round.active, label), run_tests.of_class(run.study, run.tests, label)
    return run_tests.all_dice(run.study, run.folder, tests, names, run.combiners[label].of(names))


def _judged(run: "Run") -> Told:
    """The best student there is, judged by the sites that have answered."""
    network, asked = run.study.student.spec(), run.study.asked
    return judged_at_sites(run.sites, run.round.active, run.student.best, network, run.round.ledger, asked)
