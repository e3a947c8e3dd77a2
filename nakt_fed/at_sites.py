"""The student judged, and fine-tuned, at the sites that allow it, on private pictures that nobody else could use: only
numbers come back."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nakt_fed.classes import title, union
from nakt_fed.exchange import Exchange, Request, Sites
from nakt_fed.ledger import Ledger
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.site.personal_order import PersonalOrder

Fraction = Annotated[float, Field(ge=0, le=1)]
SEND, TAKEN = "send_student", {"taken": True}
"""A site's words: it needs the student itself; it has taken it."""


class Score(BaseModel):
    """Dice over a site's private pictures, as fractions."""

    model_config = ConfigDict(extra="forbid")
    mean: Fraction
    std: Fraction


class SiteScore(BaseModel):
    """What a site tells about a student: how it and the site's own teacher do on `n` private pictures."""

    model_config = ConfigDict(extra="forbid")
    n: Annotated[int, Field(ge=1)]
    student: Score
    teacher: Score


class Refused(BaseModel):
    """A class of which a site tells nothing: too few of its pictures show it."""

    model_config = ConfigDict(extra="forbid")
    refused: Literal["too_few_images"]


class ClassScores(BaseModel):
    """What a site tells about a student of several classes."""

    model_config = ConfigDict(extra="forbid")
    classes: dict[str, SiteScore | Refused]


class PersonalScore(SiteScore):
    """And how the student does once it was fine-tuned there, on other pictures of the site."""

    personalised: Score


Told = dict[str, dict[str, Any]]
"""Per site, or site and class, a score; or {"refused": reason}."""


def judged_at_sites(
    sites: Sites,
    names: Iterable[str],
    student: Path,
    network: NetworkSpec,
    ledger: Ledger,
    asked: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Told:
    """Send the student's weights (safetensors) to these sites; per site a SiteScore, or {"refused": reason}.

    Args:
        asked: where the student knows several classes, those of each site of the study. What a site tells is then per class,
            under "<site>:<class>"; {"refused": reason} is under the site's name where it tells nothing at all.
    """
    names = list(names)
    blob = student.read_bytes()
    meta = {"network": network.model_dump(mode="json"), **({"classes": list(union(asked.values()))} if asked else {})}
    told: dict[str, Told] = {}
    for done in sites.exchange({name: iter([Request("evaluate", meta, blob)]) for name in names}):
        found = _score(done, ClassScores if asked else SiteScore)
        scores = _by_class(done.site, found, asked[done.site]) if asked else {done.site: found}
        _note(done, scores, ledger)
        told[done.site] = scores
    return {title: score for name in names for title, score in told.get(name, {}).items()}


def personalised_at_sites(
    sites: Sites, names: Iterable[str], student: Path, network: NetworkSpec, recipe: Recipe, ledger: Ledger
) -> dict[str, dict[str, Any]]:
    """Ask these sites to fine-tune the student; per site a PersonalScore, or {"refused": reason}.

    The weights go only to a site that asks for them: one that has done it before, for an earlier start of the run, answers
    at once.
    """
    names = list(names)
    blob = student.read_bytes()
    order = PersonalOrder(student=hashlib.sha256(blob).hexdigest(), network=network, recipe=recipe)
    ask = Request("personalise", order.model_dump(mode="json"))
    said: dict[str, list[str]] = {name: [] for name in names}
    told: Told = {}
    for done in sites.exchange({name: _orders(ask, blob, said[name]) for name in names}):
        word = SEND if done.reply.meta.get("reason") == SEND else "taken" if done.reply.meta == TAKEN else "told"
        said[done.site].append(word)
        if word == "told":
            told[done.site] = _score(done, PersonalScore)
            _note(done, {done.site: told[done.site]}, ledger)
        elif word == "taken":
            ledger.write(done, "private", None, 0, "ok")
    return {name: told.get(name, {"refused": "bad_reply"}) for name in names}


def _orders(ask: Request, blob: bytes, said: list[str]) -> Iterator[Request | None]:
    """The order; where the site wants the student, with it; and then again, to be told the numbers."""
    steps = [(ask, SEND), (Request(ask.kind, ask.meta, blob), "taken"), (ask, "")]
    for number, (request, goes_on) in enumerate(steps, 1):
        yield request
        while len(said) < number:
            yield None
        if said[-1] != goes_on:
            return


def _by_class(site: str, found: dict[str, Any], classes: Sequence[str]) -> Told:
    """A site's scores under their titles. Others than the study asks it for are not believed."""
    if "refused" in found:
        return {site: found}
    if sorted(found["classes"]) != sorted(classes):
        return {site: {"refused": "bad_reply"}}
    return {title(site, label): found["classes"][label] for label in sorted(classes)}


def _note(done: Exchange, told: Told, ledger: Ledger) -> None:
    """A site that has told a score has answered."""
    pictures = max(int(score.get("n", 0)) for score in told.values())
    refused = next((score["refused"] for score in told.values() if "refused" in score), "")
    ledger.write(done, "private", None, pictures, *(("ok",) if pictures else ("failed", refused)))


def _score(done: Exchange, model: type[BaseModel]) -> dict[str, Any]:
    if not done.reply.ok:
        return {"refused": _reason(done.reply.meta)}
    try:
        return model.model_validate(done.reply.meta).model_dump()
    except ValidationError:
        return {"refused": "bad_reply"}


def _reason(meta: Mapping[str, Any]) -> str:
    return str(meta.get("reason", "no reason given"))
