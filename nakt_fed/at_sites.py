"""The student judged at the sites that allow it, on private pictures that nobody else could use: only numbers come back."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nakt_fed.exchange import Exchange, Request, Sites
from nakt_fed.ledger import Ledger
from nakt_fed.recipe import NetworkSpec

Fraction = Annotated[float, Field(ge=0, le=1)]


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


def judged_at_sites(
    sites: Sites, names: Iterable[str], student: Path, network: NetworkSpec, ledger: Ledger
) -> dict[str, dict[str, Any]]:
    """Send the student's weights (safetensors) to these sites; per site a SiteScore, or {"refused": reason}."""
    blob = student.read_bytes()
    meta = {"network": network.model_dump(mode="json")}
    told = {}
    for done in sites.exchange({name: iter([Request("evaluate", meta, blob)]) for name in names}):
        told[done.site] = score = _score(done)
        outcome = ("failed", score["refused"]) if "refused" in score else ("ok",)
        ledger.write(done, "private", None, int(score.get("n", 0)), *outcome)
    return {name: told[name] for name in names if name in told}


def _score(done: Exchange) -> dict[str, Any]:
    if not done.reply.ok:
        return {"refused": str(done.reply.meta.get("reason", "no reason given"))}
    try:
        return SiteScore.model_validate(done.reply.meta).model_dump()
    except ValidationError:
        return {"refused": "bad_reply"}
