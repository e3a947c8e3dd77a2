"""The student of a run: trained as a job that any process can do, then fine-tuned on annotated pictures; each of them once."""

from dataclasses import dataclass
from pathlib import Path

from nakt_fed.checkpoint import is_saved
from nakt_fed.classes import ONE
from nakt_fed.data.folders import load_annotated
from nakt_fed.errors import RunError
from nakt_fed.recipe import Recipe
from nakt_fed.store import PseudoSet
from nakt_fed.student import FitStudent, StudentJob
from nakt_fed.study import Study
from nakt_fed.study.learners import FineTuneSpec

WEIGHTS = "student.safetensors"


@dataclass(frozen=True)
class RunStudent:
    """S, in the run's folder, and in fine_tune/ once it is fine-tuned here. `fit` does the work; `events` tells of it."""

    study: Study
    folder: Path
    events: Path
    fit: FitStudent

    @property
    def pseudo(self) -> str:
        """Where the pseudo-annotated set lies."""
        return self._for_workers("pseudo.zarr")

    @property
    def best(self) -> Path:
        """The weights of the best student there is."""
        return (self.folder / "fine_tune" if self.study.tunes_here else self.folder) / WEIGHTS

    def train(self) -> None:
        """student.safetensors, student.json, history.csv. Raises RunError: the training left no weights."""
        self._made("student", self.pseudo, self.folder, self.study.student.recipe(), None)

    def fine_tune(self, spec: FineTuneSpec) -> None:
        """The same three in fine_tune/, from the student and the annotated pictures. Raises DataError too: one cannot be used."""
        assert spec.images is not None
        assert spec.masks is not None
        out, size = self.folder / "fine_tune", self.study.study.image_size
        out.mkdir(exist_ok=True)
        few = load_annotated(spec.images, spec.masks, size)
        place = self._for_workers("fine_tune/annotated.zarr")
        annotated = PseudoSet(place, size, self.study.chunk(len(few)), few.ids, groups=few.groups)
        annotated.add(few.images, few.masks)
        annotated.close("annotated")
        self._made("student+fine_tune", place, out, spec.recipe(), self.folder / WEIGHTS)

    def _for_workers(self, name: str) -> str:
        """A path in the run folder, or below `student.storage`, which workers on other machines can open too."""
        storage = self.study.student.storage
        return f"{storage.rstrip('/')}/{self.folder.name}/{name}" if storage else str(self.folder / name)

    def _made(self, who: str, pseudo: str, out: Path, recipe: Recipe, init: Path | None) -> None:
        if is_saved(out / WEIGHTS):
            return
        self.fit(self._job(who, pseudo, out, recipe, init))
        if not is_saved(out / WEIGHTS):
            raise RunError(f"the training of the {who} left no weights in {out}; go on with --resume")

    def _job(self, who: str, pseudo: str, out: Path, recipe: Recipe, init: Path | None) -> StudentJob:
        spec, study = self.study.student, self.study
        return StudentJob(
            who=who,
            pseudo=pseudo,
            out=out,
            events=self.events,
            network=spec.spec(),
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
