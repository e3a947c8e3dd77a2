"""The round between coordinator and sites: pictures out, soft masks back, whatever carries them and in whatever order."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from nakt_fed.answers import OfferAnswer, answered, in_words, is_away, lacking, masks_of, originals_of, refusal
from nakt_fed.codec import encode
from nakt_fed.errors import AnswerError, RunError
from nakt_fed.events import EventLog
from nakt_fed.exchange import Exchange, Request, Sites
from nakt_fed.ledger import Ledger
from nakt_fed.progress import SiteMeter
from nakt_fed.teacher import TeacherCard
from nakt_fed.transferal import SharedSet

TRIES = 2
"""A chunk whose answer cannot be used is asked once more; then the site is set aside."""


class Round:
    """Asks the sites and keeps their answers. A site that cannot answer is set aside with its reason; the others go on.

    `set_aside` has the reasons; `away` are those of them that stopped answering, with nothing wrong in what they had answered.

    Raises (every method):
        RunError: fewer than `min_sites` sites are left.
    """

    def __init__(self, sites: Sites, run: Path, *, min_sites: int, near: int = 0) -> None:
        self.sites, self.run, self.min_sites, self.near = sites, run, min_sites, near
        self.ledger, self.events = Ledger(run / "ledger.jsonl"), EventLog(run / "events.jsonl")
        self.set_aside: dict[str, str] = {}
        self.away: list[str] = []
        self.overlaps: dict[str, int] = {}

    @property
    def active(self) -> list[str]:
        """Sites that answer, in the study's order."""
        return [name for name in self.sites.names if name not in self.set_aside]

    def prepare(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """These sites load or train their teachers; returns the teachers' cards."""
        cards: dict[str, dict[str, Any]] = {}
        for done in self.sites.exchange({name: iter([Request("prepare")]) for name in names}):
            try:
                cards[done.site] = TeacherCard.model_validate(answered(done)).model_dump()
            except (AnswerError, ValidationError) as error:
                self._drop(done.site, "teacher", in_words(error), is_away(done.reply))
        return cards

    def miss(self, names: Iterable[str]) -> None:
        """Set sites aside that did not come."""
        for name in names:
            self._drop(
                name, "arrival", "it did not come in time; is it running, and does it reach the coordinator?", True
            )

    def ask(self, shared: SharedSet, names: list[str]) -> None:
        """Offer the manifest to these sites, send the originals that a site lacks, and collect the masks that the store lacks."""
        asked = [name for name in names if name not in self.set_aside]
        waiting = [name for name in asked if shared.masks.missing(name)]
        everyone = shared.name == "transferal"  # also of a site that has answered all is the overlap to be known
        missing = self._offer(shared, asked if everyone else waiting)
        pack = lru_cache(maxsize=16)(lambda chunk: encode(_originals(shared, chunk)))
        self._chunks(shared, "pictures", missing, lambda chunk: self._picture_request(shared, chunk, pack(chunk)))
        wanted = {name: shared.masks.missing(name) for name in waiting if name not in self.set_aside}
        self._chunks(shared, "masks", wanted, lambda chunk: self._mask_request(shared, chunk))

    def _offer(self, shared: SharedSet, names: list[str]) -> dict[str, list[int]]:
        """Returns the chunks of originals that each site lacks."""
        about = {"set": shared.name, "chunk": shared.chunk}
        asked = {"manifest": shared.manifest.sha256, "pictures": len(shared.manifest)}
        offer = Request("offer", {**about, **asked}, shared.manifest.to_json().encode())
        missing: dict[str, list[int]] = {}
        for done in self.sites.exchange({name: iter([offer]) for name in names}):
            try:
                answer = OfferAnswer.model_validate(answered(done))
            except (AnswerError, ValidationError) as error:
                outcome = "rejected" if done.reply.ok else "failed"
                self.ledger.write(done, shared.name, None, len(shared.manifest), outcome, in_words(error))
                self._drop(done.site, shared.name, in_words(error), is_away(done.reply))
                continue
            missing[done.site] = lacking(answer, shared)
            if shared.name == "transferal" and answer.overlap is not None:
                self.overlaps[done.site] = answer.overlap
            self.ledger.write(done, shared.name, None, len(shared.manifest), "ok")
        return missing

    def _picture_request(self, shared: SharedSet, chunk: int, blob: bytes) -> Request:
        return Request("pictures", {"set": shared.name, "manifest": shared.manifest.sha256, "chunk": chunk}, blob)

    def _mask_request(self, shared: SharedSet, chunk: int) -> Request:
        rows = shared.masks.chunks[chunk]
        about = {"set": shared.name, "manifest": shared.manifest.sha256, "chunk": chunk}
        near = self.near if shared.name == "transferal" else 0
        return Request("masks", {**about, "range": [rows.start, rows.stop], "near": near})

    def _chunks(
        self, shared: SharedSet, kind: str, wanted: dict[str, list[int]], request: Callable[[int], Request]
    ) -> None:
        """Exchange these chunks with each site; a bad answer is asked again before the site is set aside."""
        queues = {name: deque(chunks) for name, chunks in wanted.items() if chunks}
        tries: dict[str, Counter[int]] = defaultdict(Counter)
        meter = SiteMeter(self.events, shared.name, kind, {name: len(chunks) for name, chunks in queues.items()})

        def questions(name: str) -> Iterator[Request]:
            while queues[name] and name not in self.set_aside:
                yield request(queues[name].popleft())

        while any(queues[name] for name in queues if name not in self.set_aside):
            for done in self.sites.exchange({name: questions(name) for name in queues if name not in self.set_aside}):
                chunk = int(done.request.meta["chunk"])
                failure = self._accept(shared, done, chunk)
                if not failure:
                    meter.add(done.site, self._count(shared, done), len(done.request.blob) + len(done.reply.blob))
                    continue
                tries[done.site][chunk] += 1
                if tries[done.site][chunk] >= TRIES or done.reply.meta.get("reason") == "unreachable":
                    self._drop(done.site, shared.name, failure[1], is_away(done.reply))
                else:
                    queues[done.site].append(chunk)

    def _count(self, shared: SharedSet, done: Exchange) -> int:
        if done.request.kind == "pictures":
            return len(originals_of(shared, int(done.request.meta["chunk"])))
        start, stop = done.request.meta["range"]
        return int(stop - start)

    def _accept(self, shared: SharedSet, done: Exchange, chunk: int) -> tuple[str, str] | None:
        """Keep a good answer; else say what is wrong with it, as (outcome, reason)."""
        failure: tuple[str, str] | None = None
        if not done.reply.ok:
            failure = "failed", refusal(done)
        elif done.request.kind == "masks":
            try:
                shared.masks.write(done.site, chunk, masks_of(shared, done, chunk))
            except AnswerError as error:
                failure = "rejected", str(error)
        self.ledger.write(done, shared.name, chunk, self._count(shared, done), *(failure or ("ok",)))
        return failure

    def _drop(self, name: str, where: str, reason: str, away: bool) -> None:
        if name in self.set_aside:
            return
        self.set_aside[name] = reason
        self.away += [name] if away else []
        self.events.emit("warning", message=f"site {name} is set aside ({where}): {reason}")
        if len(self.active) < self.min_sites:
            rows = "; ".join(f"{site}: {why}" for site, why in self.set_aside.items())
            raise RunError(
                f"{len(self.active)} of {len(self.sites.names)} sites are left, at least round.min_sites = {self.min_sites} are needed ({rows}). "
                "Mend the site and go on with --resume, or lower round.min_sites"
            )


def _originals(shared: SharedSet, chunk: int) -> NDArray[np.uint8]:
    rows = originals_of(shared, chunk)
    return np.asarray(shared.images[rows.start : rows.stop])
