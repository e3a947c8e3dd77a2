"""Orders as a site reads them, what its receipts say of them, and refusals as it words them."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nakt_fed.exchange import Reply, Request
from nakt_fed.signing import verified
from nakt_fed.site.policy import Sha256

Word = Annotated[str, Field(pattern=r"^[^\p{C}]{1,200}$")]
"""A name from outside: printable, so that it does no harm to the operator's terminal."""
LIFETIME = timedelta(hours=2)
"""A message may wait in Flower for an hour before its site takes it; whatever is asked again is signed anew."""
SKEW = timedelta(minutes=10)
"""How far the coordinator's clock may be ahead of the site's."""
SAME = "run the same nakt-fed on both sides"


class Refusal(Exception):
    """What the site does not do. The message may leave it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def reply(self) -> Reply:
        return Reply(False, {"reason": self.reason, "message": str(self)})


@dataclass
class About:
    """What the receipt says of a request: only what a signed order says, or an offer that was accepted."""

    run: str = ""
    picture_set: str = ""
    manifest: str = ""
    pictures: int = 0

    def tell(self, picture_set: str, manifest: str, pictures: int = 0) -> None:
        self.picture_set, self.manifest, self.pictures = picture_set, manifest, pictures


class Order(BaseModel):
    """What every signed order says."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    kind: str
    site: str
    run: Word
    issued: str
    meta: dict[str, Any]
    blob: Sha256


class OfferMeta(BaseModel):
    """What an offer says of its manifest."""

    model_config = ConfigDict(strict=True, frozen=True)
    set: Word
    chunk: int = Field(ge=1)
    manifest: Sha256
    pictures: int = Field(ge=1)


def opened(request: Request, key: Path, site: str, now: datetime) -> tuple[Request, str]:
    """What the coordinator has signed of a request, and the run that it is for; nothing else of it counts.

    Raises:
        Refusal: not_signed, wrong_order (another kind or blob), wrong_site, stale_order.
        RunError: the site holds no key of its coordinator.
    """
    order = _order(request, key)
    if (order.kind, order.blob) != (request.kind, hashlib.sha256(request.blob).hexdigest()):
        raise Refusal("wrong_order", "the signed order is about another request than this one")
    if order.site != site:
        text = (
            "this order is for a site of another name; site.name in the site file has to be as in the federation file"
        )
        raise Refusal("wrong_site", text)
    if not -SKEW <= now - _time(order.issued) <= LIFETIME:
        text = "this order was not made just now; check the clocks of both machines (NTP), then ask again"
        raise Refusal("stale_order", text)
    return Request(request.kind, order.meta, request.blob), order.run


def _order(request: Request, key: Path) -> Order:
    order = verified(request.meta, key)
    if order is None:
        raise Refusal(
            "not_signed", "this site answers only what its coordinator has signed; sign it with the key of the kit"
        )
    try:
        return Order.model_validate(order)
    except ValidationError:
        raise Refusal("wrong_order", f"the signed order is none that this site can read; {SAME}") from None


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refusal("wrong_order", f"the signed order has no time of issue; {SAME}") from None


def read_offer(meta: dict[str, Any]) -> OfferMeta:
    """Raises Refusal: bad_request."""
    try:
        return OfferMeta.model_validate(meta)
    except ValidationError:
        raise Refusal(
            "bad_request", f"the offer does not say which set, chunk, manifest and how many pictures; {SAME}"
        ) from None
