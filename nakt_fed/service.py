"""A site's teacher service: the boundary of the hospital (DESIGN §2). Pictures come in, masks go out, the rest stays here."""

import contextlib
import hashlib
import json
import secrets
import traceback
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nakt_fed import __version__
from nakt_fed.codec import decode, encode
from nakt_fed.data.pictures import content_hash
from nakt_fed.errors import AnswerError, CheckpointError, DataError, NaktError, is_disk_full
from nakt_fed.events import EventLog
from nakt_fed.exchange import Reply, Request
from nakt_fed.manifest import Manifest
from nakt_fed.predict import Teacher, probabilities, quantise
from nakt_fed.site_data import PrivateData, private_data
from nakt_fed.store import ChunkStore
from nakt_fed.study import SiteSpec, Study
from nakt_fed.teacher import TeacherCard, trained_teacher
from nakt_fed.views import Viewed

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
        self, site: SiteSpec, folder: Path, *, image_size: int, seed: int, threads: int, events: EventLog | None = None
    ) -> None:
        self.site, self.folder, self.image_size, self.seed, self.threads = site, folder, image_size, seed, threads
        self.events = events
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
        }
        torch.set_num_threads(self.threads)
        try:
            return handlers[request.kind](request)
        except Exception as error:  # the site's boundary: the text may hold paths or names
            return self._refuse(error, request)

    def _refuse(self, error: Exception, request: Request) -> Reply:
        reference = secrets.token_hex(4)
        reason = next((code for kind, code in REASONS.items() if isinstance(error, kind)), "internal")
        reason = "disk_full" if is_disk_full(error) else reason
        line = {
            "reference": reference,
            "request": request.kind,
            "error": str(error),
            "traceback": traceback.format_exc(),
        }
        with contextlib.suppress(OSError), (self.folder / "errors.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")  # where the disk is full, the refusal still has to leave
        return Reply(False, {"reason": reason, "reference": reference})

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
        return lambda pictures: probabilities(model, pictures, device)

    def _prepare(self, request: Request) -> Reply:
        return Reply(True, self._ready[1].model_dump())

    def _offer(self, request: Request) -> Reply:
        name, chunk = str(request.meta["set"]), int(request.meta["chunk"])
        manifest = Manifest.from_json(request.blob)
        if manifest.image_size != self.image_size or not 1 <= chunk <= 4096:
            raise DataError(
                f"offered: {manifest.image_size} px in chunks of {chunk}; this site answers {self.image_size} px, chunks of 1 to 4096"
            )
        offered = OfferedSet.keep(self.folder / "sets" / _safe(name), manifest, chunk)
        self.sets[name] = offered
        overlap = len(self.data.hashes() & set(manifest.hashes[: manifest.originals]))
        return Reply(True, {"manifest": manifest.sha256, "missing": offered.store.missing("sent"), "overlap": overlap})

    def _set(self, request: Request) -> "OfferedSet":
        name = str(request.meta["set"])
        if name not in self.sets:
            self.sets[name] = OfferedSet.open(self.folder / "sets" / _safe(name))
        offered = self.sets[name]
        if request.meta.get("manifest") != offered.manifest.sha256:
            raise DataError("the request names another manifest than the one that was offered; offer it first")
        return offered

    def _pictures(self, request: Request) -> Reply:
        self._set(request).receive(int(request.meta["chunk"]), request.blob)
        return Reply(True)

    def _masks(self, request: Request) -> Reply:
        offered = self._set(request)
        start, stop = (int(value) for value in request.meta["range"])
        pictures = offered.pictures(range(start, stop))
        soft = np.asarray(self.teacher(pictures))
        if soft.shape != pictures.shape:
            raise AnswerError(
                f"the teacher answers {soft.shape} for pictures {pictures.shape}; expected one probability per pixel"
            )
        blob = encode(quantise(soft, self.site.teacher.binary), int(request.meta.get("near", 0)))
        return Reply(True, {"manifest": offered.manifest.sha256, "range": [start, stop]}, blob)


class OfferedSet:
    """A picture set as a site holds it: the manifest, the originals it was sent; views are derived, and checked by hash."""

    def __init__(self, folder: Path, manifest: Manifest, chunk: int) -> None:
        self.manifest = manifest
        self.store = ChunkStore(folder / "pictures.zarr", manifest.originals, manifest.image_size, chunk, "pictures")

    @classmethod
    def keep(cls, folder: Path, manifest: Manifest, chunk: int) -> "OfferedSet":
        """Remember an offer; every process of the site finds it here."""
        folder = folder / f"{manifest.sha256[:16]}-{chunk}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
        (folder.parent / "current").write_text(folder.name)
        return cls(folder, manifest, chunk)

    @classmethod
    def open(cls, parent: Path) -> "OfferedSet":
        """What `keep` remembered.

        Raises:
            DataError: nothing was offered under this name.
        """
        if not (parent / "current").exists():
            raise DataError("masks are asked of a picture set that was never offered; offer its manifest first")
        folder = parent / (parent / "current").read_text()
        return cls(
            folder, Manifest.from_json((folder / "manifest.json").read_bytes()), int(folder.name.rsplit("-", 1)[1])
        )

    def receive(self, chunk: int, blob: bytes) -> None:
        """Check a chunk of originals against the manifest and keep it.

        Raises:
            DataError: no such chunk, or a picture that the manifest does not list at this place.
            AnswerError: the bytes are no coded pictures.
        """
        if not 0 <= chunk < len(self.store.chunks):
            raise DataError(f"chunk {chunk} of pictures; the manifest has {len(self.store.chunks)}")
        rows = self.store.chunks[chunk]
        pictures = decode(blob, (len(rows), self.manifest.image_size, self.manifest.image_size))
        self._check(pictures, rows)
        self.store.write("sent", chunk, pictures)

    def _check(self, pictures: NDArray[np.uint8], rows: range) -> None:
        for picture, row in zip(pictures, rows, strict=True):
            if content_hash(picture) != self.manifest.hashes[row]:
                raise DataError(
                    f"picture {row} is not the one in the manifest; send it again, or mend the version of nakt-fed on one side"
                )

    @cached_property
    def _members(self) -> Any:
        """All originals in memory, with the views behind them; taken only after every original has arrived."""
        originals = self.store.all("sent")
        ids = self.manifest.ids[: self.manifest.originals]
        return Viewed(ids, originals, self.manifest.views) if self.manifest.views else None

    def pictures(self, rows: range) -> NDArray[np.uint8]:
        """Members of the set, (n, H, W) uint8.

        Raises:
            DataError: outside the set, or the pictures were not sent yet.
        """
        if not 0 <= rows.start < rows.stop <= len(self.manifest):
            raise DataError(
                f"pictures {rows.start} to {rows.stop} of a set of {len(self.manifest)}; ask within the set"
            )
        if self.store.missing("sent"):
            raise DataError("masks are asked before all pictures were sent; send them first")
        if self._members is None:
            return np.asarray(self.store.stack("sent")[rows.start : rows.stop])
        pictures: NDArray[np.uint8] = self._members.pictures(rows)
        self._check(pictures, rows)
        return pictures


def _safe(name: str) -> str:
    """A folder name of its own for every set's name: what comes from outside never becomes a path."""
    readable = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)[:40]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@lru_cache(maxsize=64)
def _service(text: str, site: str, run: Path) -> TeacherService:
    study = Study.model_validate_json(text)
    spec = next(item for item in study.site if item.name == site)
    resources = study.resources
    return TeacherService(
        spec,
        run / "sites" / site,
        image_size=study.study.image_size,
        seed=study.study.seed,
        threads=resources.site_threads,
        events=EventLog(run / "events.jsonl"),
    )


def open_service(study: Study, site: str, run: Path) -> TeacherService:
    """A simulated site's service, one per process, so that its teacher is loaded once."""
    return _service(study.model_dump_json(), site, run)
