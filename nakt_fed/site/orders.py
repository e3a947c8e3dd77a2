"""Orders as a site reads them, and refusals as it words them."""

import contextlib
import json
import secrets
import traceback
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nakt_fed.errors import is_disk_full
from nakt_fed.exchange import Reply
from nakt_fed.signing import verified
from nakt_fed.site.site_file import Sha256

Word = Annotated[str, Field(pattern=r"^[^\p{C}]{1,200}$")]
"""A name from outside: printable, so that it does no harm to the operator's terminal."""


class Refusal(Exception):
    """What the site does not do. The message may leave it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def reply(self) -> Reply:
        return Reply(False, {"reason": self.reason, "message": str(self)})


class Order(BaseModel):
    """What every signed order says."""

    model_config = ConfigDict(strict=True, frozen=True)
    run: Word


class OfferOrder(Order):
    """Answer the pictures of this manifest."""

    kind: Literal["offer"]
    set: Word
    chunk: int = Field(ge=1)
    manifest: Sha256
    pictures: int = Field(ge=1)


class EvaluateOrder(Order):
    """Judge the student with this SHA-256."""

    kind: Literal["evaluate"]
    student: Sha256


Kind = TypeVar("Kind", bound=Order)


def read_order(meta: dict[str, Any], key: Path, kind: type[Kind]) -> Kind:
    """The signed order of a request.

    Raises:
        Refusal: not_signed, or wrong_order when it is an order of another kind.
        RunError: the site holds no key of its coordinator.
    """
    order = verified(meta, key)
    if order is None:
        raise Refusal(
            "not_signed", "this site answers only what its coordinator has signed; sign it with the key of the kit"
        )
    try:
        return kind.model_validate(order)
    except ValidationError:
        raise Refusal("wrong_order", "the signed order is not about a request of this kind") from None


def failed(folder: Path, kind: str, error: Exception) -> Reply:
    """The refusal for an error whose text must not leave: errors.jsonl in the site's own folder holds it."""
    reference = secrets.token_hex(4)
    line = {"reference": reference, "request": kind, "error": str(error), "traceback": traceback.format_exc()}
    with contextlib.suppress(OSError), (folder / "errors.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")  # where the disk is full, the refusal still has to leave
    return Reply(False, {"reason": "disk_full" if is_disk_full(error) else "internal", "reference": reference})
