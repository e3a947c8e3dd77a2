"""What a site's answer has to look like before it is kept, and in words why one cannot be used."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from nakt_fed.codec import decode
from nakt_fed.errors import AnswerError
from nakt_fed.exchange import Exchange, Reply
from nakt_fed.shared_set import SharedSet
from nakt_fed.teacher import TeacherCard

REMEDY = {
    "unreachable": "is it running and connected?",
    "bad_checkpoint": "check its teacher's checkpoint",
    "disk_full": "the site's disk is full, free some space",
    "not_from_site": "this answer was not signed with the site's registered key for this question",
    "bad_data": "check its pictures and masks with `nakt check`",
    "bad_answer": "check its teacher: finite probabilities in 0..1, one per pixel",
}
AWAY = frozenset(("unreachable", "no_service", "busy", "quota"))
"""Reasons of a site that stopped answering although nothing was wrong with what it had answered."""
MOST_LETTERS = 100
"""Of a reason code or a reference number: both are the site's own words."""


class OfferAnswer(BaseModel):
    """What a site that accepts a manifest says: the chunks of originals it lacks, and how many pictures it knows already, unless it keeps that."""

    missing: list[Annotated[int, Field(ge=0)]]
    overlap: int | None = Field(default=None, ge=0, lt=2**31)


def is_away(reply: Reply) -> bool:
    """Whether this refusal says that the site is gone, not that something is wrong with it."""
    return not reply.ok and str(reply.meta.get("reason")) in AWAY


def answered(done: Exchange) -> dict[str, Any]:
    """The meta of an answer. Raises AnswerError, in words, for a refusal."""
    if not done.reply.ok:
        raise AnswerError(refusal(done))
    return done.reply.meta


def lacking(answer: OfferAnswer, shared: SharedSet) -> list[int]:
    """The chunks of originals that a site asks for, each once; what is no chunk of the set is passed over."""
    return sorted({chunk for chunk in answer.missing if originals_of(shared, chunk)})


def originals_of(shared: SharedSet, chunk: int) -> range:
    """The originals of a chunk; the last chunk of originals may be followed by views."""
    return range(chunk * shared.chunk, min((chunk + 1) * shared.chunk, shared.manifest.originals))


def refuse_classes(card: TeacherCard, asked: Sequence[str]) -> None:
    """Raise AnswerError where a teacher knows other classes than the study says; one class may have any name."""
    known = sorted(card.classes)
    if (asked and known != sorted(asked)) or (not asked and len(known) > 1):
        raise AnswerError(
            f"its teacher knows {known or 'one class without a name'}, the study says {sorted(asked) or 'one class'}; "
            "write the same classes in the study and in the site's own file"
        )


def masks_of(shared: SharedSet, done: Exchange, chunk: int) -> NDArray[np.uint8]:
    """The answer's masks (n, H, W) uint8, of several classes one class below the other.

    Raises:
        AnswerError: they belong to another manifest, place or shape.
    """
    rows, told = shared.masks.chunks[chunk], done.reply.meta
    if told.get("manifest") != shared.manifest.sha256 or told.get("range") != [rows.start, rows.stop]:
        raise AnswerError("the answer belongs to another manifest or to other pictures")
    count = len(rows) * len(shared.planes(done.site))
    return decode(done.reply.blob, (count, shared.manifest.image_size, shared.manifest.image_size))


def in_words(error: AnswerError | ValidationError) -> str:
    """Why an answer cannot be used."""
    if isinstance(error, AnswerError):
        return str(error)
    fault = error.errors(include_input=False)[0]
    place = ".".join(map(str, fault["loc"]))[:MOST_LETTERS]
    return f"its answer has {place}: {fault['msg']}; run the same nakt-fed there and here"


def refusal(done: Exchange) -> str:
    """A refusal in words; the details are in the site's own errors.jsonl under the reference."""
    code, reference = _word(done.reply.meta, "reason") or "no reason given", _word(done.reply.meta, "reference")
    where = f", reference {reference} in the site's errors.jsonl" if reference else ""
    return f"{code}{where}; {REMEDY.get(code, 'ask the site')}"


def _word(meta: Mapping[str, Any], key: str) -> str:
    """Short and printable, whatever the site says."""
    text = str(meta.get(key) or "")[:MOST_LETTERS]
    return "".join(letter if letter.isprintable() else "�" for letter in text)
