"""Request and Reply as a JSON text and a blob, which every carrier (Flower's records, a socket) can hold."""

import json
from typing import Any, get_args

from nakt_fed.errors import AnswerError
from nakt_fed.exchange import Kind, Reply, Request

KINDS: tuple[str, ...] = get_args(Kind)


def request_text(request: Request) -> str:
    """What `read_request` needs besides the blob. Raises TypeError when `meta` holds more than JSON."""
    return json.dumps({"kind": request.kind, "meta": request.meta}, allow_nan=False)


def read_request(text: str, blob: bytes) -> Request:
    """The other end of `request_text`. Raises AnswerError for a text that is no request, or one of an unknown kind."""
    fields = _object(text, "request")
    if not (fields.keys() == {"kind", "meta"} and isinstance(fields["meta"], dict)):
        raise AnswerError(f"expected a request with kind and meta; got {sorted(fields)}; run the same nakt-fed there")
    if fields["kind"] not in KINDS:
        raise AnswerError(f"expected a request of kind {', '.join(KINDS)}; got {str(fields['kind'])[:40]!r}")
    return Request(fields["kind"], fields["meta"], blob)


def reply_text(reply: Reply) -> str:
    """What `read_reply` needs besides the blob."""
    return json.dumps({"ok": reply.ok, "meta": reply.meta}, allow_nan=False)


def read_reply(text: str, blob: bytes) -> Reply:
    """The other end of `reply_text`. Raises AnswerError for a text that is no reply."""
    fields = _object(text, "reply")
    if not (fields.keys() == {"ok", "meta"} and isinstance(fields["ok"], bool) and isinstance(fields["meta"], dict)):
        raise AnswerError(f"expected a reply with ok and meta; got {sorted(fields)}; the site runs another version")
    return Reply(fields["ok"], fields["meta"], blob)


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:  # nested too deeply, a number too long to read
        raise AnswerError(f"expected a {what} in JSON; got {text[:40]!r} ({error})") from None
    if not isinstance(value, dict):
        raise AnswerError(f"expected a {what} as a JSON object; got {type(value).__name__}")
    return value


def _no_number(name: str) -> None:
    """Python reads NaN and Infinity, which are no JSON, and could not be passed on."""
    raise ValueError(f"{name} is no number")
