"""Requests and replies as bytes, for the local socket and the cache: the length of a JSON head, the head, the blob.

4 bytes, big-endian | head, JSON | blob
"""

import json
import struct
from typing import Any

from nakt_fed.errors import AnswerError
from nakt_fed.exchange import Reply, Request
from nakt_fed.wire import read_reply, read_request, reply_text, request_text

LENGTH = struct.Struct(">I")
LONGEST_HEAD = 2**20
"""Bytes; a reader never parses more JSON than this. Whatever is large goes in the blob."""


def request_frame(request: Request) -> bytes:
    """Raises TypeError when `meta` holds more than JSON."""
    return _frame({"text": request_text(request)}, request.blob)


def read_request_frame(data: bytes) -> Request:
    """The other end of `request_frame`. Raises AnswerError: not such a frame, or of an unknown kind."""
    text, blob = _parts(data)
    return read_request(text, blob)


def reply_frame(reply: Reply) -> bytes:
    """Raises TypeError when `meta` holds more than JSON."""
    return _frame({"text": reply_text(reply)}, reply.blob)


def read_reply_frame(data: bytes) -> Reply:
    """The other end of `reply_frame`. Raises AnswerError: not such a frame."""
    text, blob = _parts(data)
    return read_reply(text, blob)


def _frame(head: dict[str, str], blob: bytes) -> bytes:
    text = json.dumps(head).encode()
    return b"".join((LENGTH.pack(len(text)), text, blob))


def _parts(data: bytes) -> tuple[str, bytes]:
    """The head's text, and the blob."""
    end = LENGTH.size + (LENGTH.unpack_from(data)[0] if len(data) >= LENGTH.size else 0)
    if not LENGTH.size < end <= min(len(data), LONGEST_HEAD):
        raise AnswerError(f"expected a frame with a head of at most {LONGEST_HEAD} bytes; got {len(data)} other bytes")
    head = _head(data[LENGTH.size : end])
    if not (isinstance(head, dict) and isinstance(head.get("text"), str)):
        raise AnswerError("expected a frame whose head holds a text; got another head")
    return head["text"], data[end:]


def _head(data: bytes) -> Any:
    """JSON from outside may be nested too deeply, or hold a number too long to read."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"not readable: {error}") from None
