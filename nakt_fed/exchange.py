"""What crosses between coordinator and site: a request and its reply, and the protocol of whatever carries them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Kind = Literal["hello", "prepare", "offer", "pictures", "masks", "evaluate", "personalise", "app"]


@dataclass(frozen=True)
class Request:
    """One question to one site. `meta` holds JSON values; `blob` holds coded arrays; nothing is ever unpickled.

    `then` is carried and answered behind this one, and needs what this one brings: where this one is refused, it is dropped.

    hello     who are you
    prepare   load the teacher, or train it on the private pictures first (simulation)
    offer     blob: the manifest (JSON) of a picture set; the site accepts or refuses before a picture is looked at
    pictures  blob: coded pictures of the offered set, meta `indices`: the site keeps them (views need them again)
    masks     meta `set`, `manifest`, `indices`: answer with the teacher's soft masks
    evaluate  blob: a student (safetensors), meta `network`, of several classes `classes`: its Dice and the teacher's on the
              private pictures
    personalise  meta `student` (its SHA-256), `network`, `recipe`: fine-tune it on the private pictures and keep it; Dice of
              teacher, student and personalised student. blob: the student, once the site has asked for it (`send_student`)
    app       blob: a Flower bundle; asked by the site's own SuperNode: may it run here
    """

    kind: Kind
    meta: dict[str, Any] = field(default_factory=dict)
    blob: bytes = b""
    then: "Request | None" = field(default=None, compare=False)


@dataclass(frozen=True)
class Reply:
    """A site's answer. Not ok: `meta["reason"]` is a code, `meta["message"]` is safe to leave the site."""

    ok: bool
    meta: dict[str, Any] = field(default_factory=dict)
    blob: bytes = b""


@dataclass(frozen=True)
class Exchange:
    """One request with its reply and the seconds between them."""

    site: str
    request: Request
    reply: Reply
    seconds: float


def in_turn(request: Request, ask: Callable[[Request], Exchange]) -> Iterator[Exchange]:
    """Ask this request and then what is behind it, as every engine has to."""
    left: Request | None = request
    while left:
        done = ask(left)
        left = left.then if done.reply.ok else None
        yield done


class Sites(Protocol):
    """The only thing an engine has to offer: carry requests to sites and bring the replies back, in any order.

    Requests of one site are taken from its iterator in order, only as fast as the site answers, so that memory is
    bounded by what is in flight. Where the iterator gives None, nothing can be asked of the site before one of its answers
    has been yielded; it goes on thereafter. A site that cannot be reached answers with `ok=False` and reason `unreachable`.
    """

    names: list[str]

    def arrivals(self) -> Iterator[list[str]]:
        """The sites in groups as they come; those that it never yields did not come in time."""
        ...

    def exchange(self, requests: Mapping[str, Iterator[Request | None]]) -> Iterator[Exchange]: ...
