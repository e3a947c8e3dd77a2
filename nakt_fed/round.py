"""The round between coordinator and sites: pictures out, soft masks back, whatever carries them and in whatever order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nakt_fed.answers import (
    OfferAnswer,
    answered,
    in_words,
    is_away,
    lacking,
    masks_of,
    originals_of,
    refusal,
    refuse_classes,
)
from nakt_fed.errors import AnswerError, RunError
from nakt_fed.events import EventLog
from nakt_fed.exchange import Exchange, Request, Sites
from nakt_fed.ledger import Ledger
from nakt_fed.plan import OFFER, Plan
from nakt_fed.progress import SiteMeter
from nakt_fed.questions import Questions
from nakt_fed.shared_set import SharedSet
from nakt_fed.teacher import TeacherCard

TRIES = 2
"""A chunk whose answer cannot be used is asked once more; then the site is set aside."""


class Round:
    """Asks the sites and keeps their answers. A site that cannot answer is set aside with its reason; the others go on.

    `classes` says which classes each site is asked for, where there are several.
    `set_aside` has the reasons; `away` are those of them that stopped answering, with nothing wrong in what they had answered.

    Raises (every method):
        RunError: fewer than `min_sites` sites are left.
    """

    def __init__(
        self,
        sites: Sites,
        run: Path,
        *,
        min_sites: int,
        near: int = 0,
        classes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.sites, self.run, self.min_sites, self.questions = sites, run, min_sites, Questions(near)
        self.classes = classes or {}
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
                card = TeacherCard.model_validate(answered(done))
                refuse_classes(card, self.classes.get(done.site, ()))
                cards[done.site] = card.told()
            except (AnswerError, ValidationError) as error:
                self._drop(done.site, "teacher", in_words(error), is_away(done.reply))
        return cards

    def miss(self, names: Iterable[str]) -> None:
        """Set sites aside that did not come."""
        for name in names:
            self._drop(
                name, "arrival", "it did not come in time; is it running, and does it reach the coordinator?", True
            )

    def ask(self, sets: Sequence[SharedSet], names: list[str]) -> None:
        """Offer the sets to these sites, send the originals that a site lacks, and collect the masks that the store lacks.

        Each site goes through the sets at its own pace.
        """
        plans = {name: self._plans(sets, name) for name in names if name not in self.set_aside}
        meters = {
            (shared.name, kind): SiteMeter(self.events, shared.name, kind)
            for shared in sets
            for kind in ("pictures", "masks")
        }
        for done in self.sites.exchange({name: self._questions(name, each.values()) for name, each in plans.items()}):
            plan = plans[done.site][str(done.request.meta["set"])]
            if done.request.kind == "offer":
                self._offered(plan, done, meters)
            else:
                self._answered(plan, done, meters[plan.shared.name, done.request.kind])

    def _plans(self, sets: Sequence[SharedSet], name: str) -> dict[str, Plan]:
        """By set. Of a site that has answered all of the transferal set is the overlap to be known too."""
        wanted = {shared.name: (shared, shared.masks.missing(name)) for shared in sets}
        return {key: Plan(shared, masks) for key, (shared, masks) in wanted.items() if masks or key == "transferal"}

    def _questions(self, name: str, plans: Iterable[Plan]) -> Iterator[Request | None]:
        for plan in plans:
            while not plan.done and name not in self.set_aside:
                steps = plan.take()
                yield self.questions.request(plan.shared, steps) if steps else None

    def _offered(self, plan: Plan, done: Exchange, meters: dict[tuple[str, str], SiteMeter]) -> None:
        shared, count = plan.shared, len(plan.shared.manifest)
        try:
            answer = OfferAnswer.model_validate(answered(done))
        except (AnswerError, ValidationError) as error:
            outcome = "rejected" if done.reply.ok else "failed"
            self.ledger.write(done, shared.name, None, count, outcome, in_words(error))
            self._drop(done.site, shared.name, in_words(error), is_away(done.reply))
            return
        plan.accepted(lacking(answer, shared))
        meters[shared.name, "pictures"].total[done.site] = len(plan.pictures)
        meters[shared.name, "masks"].total[done.site] = len(plan.masks)
        if shared.name == "transferal" and answer.overlap is not None:
            self.overlaps[done.site] = answer.overlap
        self.ledger.write(done, shared.name, None, count, "ok")
        plan.answered(OFFER)

    def _answered(self, plan: Plan, done: Exchange, meter: SiteMeter) -> None:
        """Keep it; what cannot be used is asked again before the site is set aside."""
        chunk = int(done.request.meta["chunk"])
        step = (done.request.kind, chunk)
        failure = self._accept(plan.shared, done, chunk)
        if not failure:
            plan.answered(step)
            meter.add(done.site, self._count(plan.shared, done), len(done.request.blob) + len(done.reply.blob))
        elif plan.failed(step) >= TRIES or done.reply.meta.get("reason") == "unreachable":
            self._drop(done.site, plan.shared.name, failure[1], is_away(done.reply))

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
