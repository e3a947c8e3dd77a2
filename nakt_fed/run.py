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
from nakt_fed.at_sites import Told, judged_at_sites, personalised_at_sites
from nakt_fed.checkpoint import is_saved
from nakt_fed.classes import ONE, class_folder
from nakt_fed.data.folders import load_annotated
from nakt_fed.errors import RunError, is_disk_full
from nakt_fed.events import EventLog
from nakt_fed.exchange import Sites
from nakt_fed.nakt import algorithm_1, algorithm_2
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.results import write_results
from nakt_fed.round import Round
from nakt_fed.store import PseudoSet
from nakt_fed.student import FitStudent, StudentJob
from nakt_fed.study import Study
from nakt_fed.study_tables import FineTuneSpec
from nakt_fed.suspects import note_suspects
from nakt_fed.transferal import SharedSet, transferal_set
from nakt_fed.weightings import find
from nakt_fed.weightings.bound import refuse_cards
from nakt_fed.weightings.check import refuse_combination
from nakt_fed.withdrawal_proof import complete_proofs


class Run:
    """One study in one folder. Every act may be called again after a kill: what is finished is not repeated.

    Raises (every act): RunError, FilterError, DataError, StudyError, each with its remedy.
    """

    def __init__(self, study: Study, folder: Path, sites: Sites, fit_student: FitStudent) -> None:
        refuse_combination(study)
        self.study, self.folder, self.sites, self.fit_student = study, folder, sites, fit_student
        self.events = EventLog(folder / "events.jsonl")
        self.round = Round(sites, folder, min_sites=study.min_sites, near=study.round.near, classes=study.asked)
        self.cards: dict[str, dict[str, object]] = {}
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
        told, marks = self.round, self.transferal.masks.group.attrs
        self.cards = self._known_cards()
        kept: Any = {"cards": self.cards, "overlaps": told.overlaps, "set_aside": told.set_aside, "away": told.away}
        marks["round"] = kept

    def _ask(self, names: list[str]) -> None:
        with self.stage("teachers"):
            self.cards |= self.round.prepare(names)
            refuse_cards(find(self.study.fusion.weighting), self.study.fusion, self.cards)
        with self.stage("pictures"):
            everything = [self.transferal, *self.tests.values()]
        self.transferal.masks.group.attrs["cards"] = self._known_cards()  # of one that never comes back too
        with self.stage("masks"):
            self.round.ask(everything, names)

    def _known_cards(self) -> Any:
        """Also of sites that have answered in an earlier start only."""
        earlier: Any = self.transferal.masks.group.attrs.get("cards", {})
        return {**earlier, **self.cards}

    def _recall(self) -> bool:
        """Who took part when an earlier start had every answer: what comes after must not change with who is there today."""
        kept: Any = self.transferal.masks.group.attrs.get("round") if (self.folder / "manifest.json").exists() else None
        if kept:
            self.cards, self.round.overlaps, self.round.set_aside = kept["cards"], kept["overlaps"], kept["set_aside"]
            self.round.away = kept.get("away", [])
        return bool(kept)

    def fuse_and_filter(self) -> None:
        """masks.zarr/pseudo and filter.csv, of several classes in a folder each, then pseudo.zarr with what is kept."""
        with self.stage("fusion"):
            collect([self._annotated(label) for label in self.study.classes], self._pseudo)

    def _annotated(self, label: str) -> Annotation:
        """Of one class."""
        shared, names = self.transferal.of(label), self.knowing(self.counted, label)
        folder = class_folder(self.folder, label)
        annotation = Annotation(self.study, folder, shared, sites_of_chunks(shared.masks, names, self.combiners[label]))
        annotation.annotate()
        note_suspects(self.study, folder, shared, names, self.events)
        return annotation

    def _for_workers(self, name: str) -> str:
        """A path in the run folder, or below `student.storage`, which workers on other machines can open too."""
        storage = self.study.student.storage
        return f"{storage.rstrip('/')}/{self.folder.name}/{name}" if storage else str(self.folder / name)

    @property
    def _pseudo(self) -> str:
        return self._for_workers("pseudo.zarr")

    def fit(self) -> None:
        """student.safetensors, student.json, history.csv."""
        with self.stage("student"):
            self._student("student", self._pseudo, self.folder, self.study.student.recipe(), None)

    def fine_tune(self) -> None:
        """The same three in fine_tune/, from the student and the annotated pictures; then at the sites, on theirs."""
        assert self.study.fine_tune is not None
        recipe = self.study.fine_tune.recipe()
        with self.stage("fine_tune"):
            if self.study.tunes_here:
                self._fine_tune_here(self.study.fine_tune, recipe)
            if self.study.tunes_at_sites:
                network, ledger = self.study.student.spec(), self.round.ledger
                self.personalised = personalised_at_sites(
                    self.sites, self.round.active, self._best, network, recipe, ledger
                )

    def _fine_tune_here(self, spec: FineTuneSpec, recipe: Recipe) -> None:
        out = self.folder / "fine_tune"
        out.mkdir(exist_ok=True)
        assert spec.images is not None
        assert spec.masks is not None
        few = load_annotated(spec.images, spec.masks, self.study.study.image_size)
        place = self._for_workers("fine_tune/annotated.zarr")
        annotated = PseudoSet(place, self.study.study.image_size, self.study.chunk(len(few)), few.ids)
        annotated.add(few.images, few.masks)
        annotated.close("annotated")
        self._student("student+fine_tune", place, out, recipe, self.folder / "student.safetensors")

    @property
    def _best(self) -> Path:
        """The best student there is."""
        folder = self.folder / "fine_tune" if self.study.tunes_here else self.folder
        return folder / "student.safetensors"

    def _student(self, who: str, pseudo: str, out: Path, recipe: Recipe, init: Path | None) -> None:
        if is_saved(out / "student.safetensors"):
            return
        spec, study = self.study.student, self.study
        network: NetworkSpec = spec.spec()
        self.fit_student(
            StudentJob(
                who=who,
                pseudo=pseudo,
                out=out,
                events=self.events.path,
                network=network,
                recipe=recipe,
                seed=study.study.seed,
                threads=study.resources.student_threads,
                workers=spec.workers,
                gpus_per_worker=spec.gpus_per_worker,
                storage=spec.storage,
                init=init,
                calibrate=spec.calibrate and init is None,
                classes=study.classes if study.classes != ONE else (),
            )
        )
        if not is_saved(out / "student.safetensors"):
            raise RunError(f"the training of the {who} left no weights in {out}; go on with --resume")

    def evaluate(self) -> None:
        """results.json, and report.html from it."""
        with self.stage("evaluation"):
            dice = run_tests.united(self._dice(label) for label in self.study.classes)
            at_sites = self._judged() if self.study.round.judge_student else {}
        write_results(self, dice, at_sites, self.personalised)
        from nakt_fed.report import write_report  # plotting is slow to import and not needed before

        with self.stage("report"):
            write_report(self.folder)
        complete_proofs(self.folder)

    def _dice(self, label: str) -> run_tests.DiceTable:
        """Of one class."""
        names, tests = self.knowing(self.round.active, label), run_tests.of_class(self.study, self.tests, label)
        return run_tests.all_dice(self.study, self.folder, tests, names, self.combiners[label].of(names))

    def _judged(self) -> dict[str, dict[str, Any]]:
        """The best student there is, judged by the sites that have answered."""
        network = self.study.student.spec()
        return judged_at_sites(self.sites, self.round.active, self._best, network, self.round.ledger)


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
