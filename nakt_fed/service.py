"""A site's teacher service: the boundary of the hospital (DESIGN §2). Pictures come in, masks go out, the rest stays here."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from nakt_fed import __version__
from nakt_fed.codec import encode
from nakt_fed.errors import AnswerError, CheckpointError, DataError, NaktError, RunError
from nakt_fed.events import EventLog
from nakt_fed.exchange import Reply, Request
from nakt_fed.manifest import Manifest
from nakt_fed.offered import OfferedSet, set_folder
from nakt_fed.predict import Teacher, probabilities, quantise
from nakt_fed.site.evaluation import MIN_EVALUATED, evaluated
from nakt_fed.site.failures import failed
from nakt_fed.site.personal import personalised
from nakt_fed.site.personal_job import Job, Trainer, place
from nakt_fed.site.personal_order import PersonalOrder
from nakt_fed.site.personal_training import train_here
from nakt_fed.site_data import PrivateData, private_data
from nakt_fed.study.pictures import SiteSpec
from nakt_fed.study.study import MOST_CHUNK
from nakt_fed.teacher import TeacherCard, trained_teacher

REASONS: dict[type[Exception], str] = {
    CheckpointError: "bad_checkpoint",
    DataError: "bad_data",
    AnswerError: "bad_answer",
    NaktError: "refused",
}


class TeacherService:
    """Answers the requests of `exchange.Request` for one site.

    An exception never leaves the site: the reply holds a reason code and a reference number, errors.jsonl in the site's
    own folder holds the rest.
    """

    def __init__(
        self,
        site: SiteSpec,
        folder: Path,
        *,
        image_size: int,
        seed: int,
        threads: int,
        events: EventLog | None = None,
        min_evaluated: int = MIN_EVALUATED,
        trainer: Trainer = train_here,
    ) -> None:
        self.site, self.folder, self.image_size, self.seed, self.threads = site, folder, image_size, seed, threads
        self.events, self.min_evaluated, self.trainer = events, min_evaluated, trainer
        self.sets: dict[str, OfferedSet] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def handle(self, request: Request) -> Reply:
        """Answer one request; whatever goes wrong becomes a refusal with a reason code."""
        handlers: dict[str, Callable[[Request], Reply]] = {
            "hello": self._hello,
            "prepare": self._prepare,
            "offer": self._offer,
            "pictures": self._pictures,
            "masks": self._masks,
            "evaluate": self._evaluate,
            "personalise": self._personalise,
        }
        torch.set_num_threads(self.threads)
        try:
            return handlers[request.kind](request)
        except Exception as error:  # the site's boundary: the text may hold paths or names
            return self._refuse(error, request)

    def _refuse(self, error: Exception, request: Request) -> Reply:
        reason = next((code for kind, code in REASONS.items() if isinstance(error, kind)), "internal")
        stopped = request.kind == "personalise" and isinstance(error, RunError)
        return failed(self.folder, request.kind, error, "training_failed" if stopped else reason)

    def _hello(self, request: Request) -> Reply:
        return Reply(True, {"site": self.site.name, "version": __version__})

    @cached_property
    def data(self) -> PrivateData:
        return private_data(self.site, self.image_size, self.seed)

    @cached_property
    def _ready(self) -> tuple[torch.nn.Module, TeacherCard]:
        return trained_teacher(
            self.site, lambda: self.data, self.folder, image_size=self.image_size, seed=self.seed, events=self.events
        )

    @cached_property
    def teacher(self) -> Teacher:
        """T_k; a test may put any other callable here."""
        model, _ = self._ready
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model.to(device)
        return lambda pictures: probabilities(model, pictures, device, self.site.teacher.classes)

    def _prepare(self, request: Request) -> Reply:
        return Reply(True, self._ready[1].told())

    def _offer(self, request: Request) -> Reply:
        name, chunk = str(request.meta["set"]), int(request.meta["chunk"])
        manifest = Manifest.from_json(request.blob)
        if manifest.image_size != self.image_size or not 1 <= chunk <= MOST_CHUNK:
            raise DataError(
                f"offered: {manifest.image_size} px in chunks of {chunk}; this site answers {self.image_size} px, chunks of 1 to {MOST_CHUNK}"
            )
        offered = OfferedSet.keep(self.folder / "sets" / set_folder(name), manifest, chunk)
        self.sets[name] = offered
        overlap = len(self.data.hashes() & set(manifest.hashes[: manifest.originals]))
        return Reply(True, {"manifest": manifest.sha256, "missing": offered.store.missing("sent"), "overlap": overlap})

    def _set(self, request: Request) -> OfferedSet:
        name, manifest = str(request.meta["set"]), str(request.meta.get("manifest"))
        if name not in self.sets or self.sets[name].manifest.sha256 != manifest:
            self.sets[name] = OfferedSet.open(self.folder / "sets" / set_folder(name), manifest)
        return self.sets[name]

    def _pictures(self, request: Request) -> Reply:
        self._set(request).receive(int(request.meta["chunk"]), request.blob)
        return Reply(True)

    def _masks(self, request: Request) -> Reply:
        offered = self._set(request)
        start, stop = (int(value) for value in request.meta["range"])
        pictures = offered.pictures(range(start, stop))
        soft, classes = np.asarray(self.teacher(pictures)), self.site.teacher.classes
        if soft.shape != (len(pictures), *([classes] if classes > 1 else []), *pictures.shape[1:]):
            raise AnswerError(
                f"the teacher answers {soft.shape} for pictures {pictures.shape}; expected one probability per pixel and class"
            )
        planes = soft if classes == 1 else soft.swapaxes(0, 1).reshape(-1, *pictures.shape[1:])  # class after class
        blob = encode(quantise(planes, self.site.teacher.binary), int(request.meta.get("near", 0)))
        return Reply(True, {"manifest": offered.manifest.sha256, "range": [start, stop]}, blob)

    def _evaluate(self, request: Request) -> Reply:
        return evaluated(
            request, self.data, lambda pictures: self.teacher(pictures), self.min_evaluated, self.site.classes
        )

    def _personalise(self, request: Request) -> Reply:
        order = PersonalOrder.model_validate(request.meta)
        job = Job(
            folder=place(self.folder, order.key, self.data),
            order=order,
            site=self.site,
            image_size=self.image_size,
            seed=self.seed,
            threads=self.threads,
        )
        return personalised(job, request.blob, self.data, lambda x: self.teacher(x), self.trainer, self.min_evaluated)
