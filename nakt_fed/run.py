"""A whole run in its folder: the six acts of `nakt.py` with sites, disk and student; every finished act is found again."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

from nakt_fed import run_tests
from nakt_fed.annotation import Annotation, collect
from nakt_fed.answered import Combiners, counted_sites, sites_of_chunks
from nakt_fed.at_sites import Told, personalised_at_sites
from nakt_fed.classes import class_folder
from nakt_fed.errors import RunError, is_disk_full
from nakt_fed.events import EventLog
from nakt_fed.exchange import Sites
from nakt_fed.nakt import algorithm_1, algorithm_2
from nakt_fed.round import Round
from nakt_fed.run_evaluation import evaluate
from nakt_fed.run_memory import Cards, known_cards, recall, remember
from nakt_fed.run_student import RunStudent
from nakt_fed.shared_set import SharedSet
from nakt_fed.student import FitStudent
from nakt_fed.study import Study
from nakt_fed.suspects import note_suspects
from nakt_fed.transferal import transferal_set
from nakt_fed.weightings import find
from nakt_fed.weightings.bound import refuse_cards
from nakt_fed.weightings.check import refuse_combination


class Run:
    """One study in one folder. Every act may be called again after a kill: what is finished is not repeated.

    Raises (every act): RunError, FilterError, DataError, StudyError, each with its remedy.
    """

    def __init__(self, study: Study, folder: Path, sites: Sites, fit_student: FitStudent) -> None:
        refuse_combination(study)
        self.study, self.folder, self.sites = study, folder, sites
        self.events = EventLog(folder / "events.jsonl")
        self.round = Round(sites, folder, min_sites=study.min_sites, near=study.round.near, classes=study.asked)
        self.student = RunStudent(study, folder, self.events.path, fit_student)
        self.cards: Cards = {}
        self.personalised: Told = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Say that a stage begins and how long it took; the seconds of results.json are their sums."""
        self.events.emit("stage", name=name, state="begins")
        began = perf_counter()
        yield
        self.events.emit("stage", name=name, state="done", seconds=round(perf_counter() - began, 3))

    @cached_property
    def transferal(self) -> SharedSet:
        """D."""
        return transferal_set(self.study, self.folder)

    @cached_property
    def tests(self) -> dict[str, SharedSet]:
        """The test sets, by name."""
        return run_tests.test_sets(self.study, self.folder)

    @property
    def counted(self) -> list[str]:
        """The sites in the pseudo masks: those that have answered all, and if the study says so what others had answered
        before they went away."""
        unfinished = self.round.away if self.study.round.unfinished == "use" else []
        return counted_sites(self.transferal.masks, self.sites.names, self.round.set_aside, unfinished, self.cards)

    @cached_property
    def combiners(self) -> dict[str, Combiners]:
        """w of each class, once all have answered."""
        study, transferal = self.study, self.transferal
        return {
            label: Combiners(
                study.fusion,
                self.cards,
                transferal.of(label).masks,
                run_tests.of_class(study, self.tests, label),
                study.study.seed,
            )
            for label in study.classes
        }

    def knowing(self, names: Iterable[str], label: str) -> list[str]:
        """Those of the sites that know a class. Raises RunError: of the sites that have answered all, none does."""
        able = self.study.knowing(label)
        if not set(able) & set(self.round.active):
            why = "; ".join(f"{site}: {self.round.set_aside.get(site, 'no answer')}" for site in able)
            raise RunError(
                f"no site is left that knows the class {label!r} ({why}); mend the site and start again, "
                "or take the class out of the study"
            )
        return [name for name in names if name in able]

    def predict(self) -> None:
        """Teachers ready; every site answers the transferal set and the test sets. When all have, none is asked again."""
        if self._recall():
            return
        for names in self.sites.arrivals():
            self._ask(names)
        self.round.miss(name for name in self.sites.names if name not in self.cards)
        self.cards = known_cards(self._marks, self.cards)
        remember(self._marks, self.cards, self.round)

    def _ask(self, names: list[str]) -> None:
        with self.stage("teachers"):
            self.cards |= self.round.prepare(names)
            refuse_cards(find(self.study.fusion.weighting), self.study.fusion, self.cards)
        with self.stage("pictures"):
            everything = [self.transferal, *self.tests.values()]
        self._marks["cards"] = known_cards(self._marks, self.cards)  # of one that never comes back too
        with self.stage("masks"):
            self.round.ask(everything, names)

    def _recall(self) -> bool:
        kept = recall(self._marks, self.round) if (self.folder / "manifest.json").exists() else None
        self.cards = self.cards if kept is None else kept
        return kept is not None

    @property
    def _marks(self) -> Any:
        return self.transferal.masks.group.attrs

    def fuse_and_filter(self) -> None:
        """masks.zarr/pseudo and filter.csv, of several classes in a folder each, then pseudo.zarr with what is kept."""
        with self.stage("fusion"):
            collect([self._annotated(label) for label in self.study.classes], self.student.pseudo)

    def _annotated(self, label: str) -> Annotation:
        """Of one class."""
        shared, names = self.transferal.of(label), self.knowing(self.counted, label)
        folder = class_folder(self.folder, label)
        annotation = Annotation(self.study, folder, shared, sites_of_chunks(shared.masks, names, self.combiners[label]))
        annotation.annotate()
        note_suspects(self.study, folder, shared, names, self.events)
        return annotation

    def fit(self) -> None:
        """student.safetensors, student.json, history.csv."""
        with self.stage("student"):
            self.student.train()

    def fine_tune(self) -> None:
        """The same three in fine_tune/, from the student and the annotated pictures; then at the sites, on theirs."""
        spec = self.study.fine_tune
        assert spec is not None
        with self.stage("fine_tune"):
            if self.study.tunes_here:
                self.student.fine_tune(spec)
            if self.study.tunes_at_sites:
                network, ledger = self.study.student.spec(), self.round.ledger
                self.personalised = personalised_at_sites(
                    self.sites, self.round.active, self.student.best, network, spec.recipe(), ledger
                )

    def evaluate(self) -> None:
        """results.json, and report.html from it."""
        evaluate(self)


def run_study(study: Study, folder: Path, sites: Sites, fit_student: FitStudent) -> None:
    """Algorithm 1, or 2 when the study has [fine_tune], then the evaluation; leaves the run folder of DESIGN §6."""
    try:
        run = Run(study, folder, sites, fit_student)
        run.events.emit("start", sites=sites.names)
        (algorithm_2 if study.fine_tune else algorithm_1)(run)
        run.evaluate()
        run.events.emit("done", report=str(folder / "report.html"))
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise RunError(f"the disk is full ({error}), the run is in {folder}; free some space, then resume") from error
