"""Flower's messages: several requests become one, and the answer to it several replies."""

from itertools import accumulate

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from nakt_fed.errors import AnswerError
from nakt_fed.exchange import Reply, Request
from nakt_fed.signing import Answer, is_answer_of
from nakt_fed.wire import read_reply, request_text

INVALID_FAB = 7  # Flower's code for a bundle that a site has not approved


def blob_array(blob: bytes) -> Array:
    """Flower's array of raw bytes; Arrays are three times faster than bytes in a ConfigRecord."""
    return Array("uint8", (len(blob),), "bytes", blob)


def query(node: int, requests: list[Request], ttl: float) -> Message:
    """The message to a node that carries these requests; Flower gives it up after `ttl` seconds."""
    texts = [request_text(each) for each in requests]
    blobs = {str(place): blob_array(each.blob) for place, each in enumerate(requests) if each.blob}
    content = RecordDict({"meta": ConfigRecord({"json": texts}), "blobs": ArrayRecord(blobs)})
    return Message(content, node, "query", ttl=ttl)


def read_message(message: Message, key: bytes | None = None) -> list[Reply]:
    """The site's replies to the first requests of a message, at least one; or why there are none: Flower's own error, an
    answer that is no reply of ours, or one that the holder of the site's `key` (PEM) has not given to this message."""
    if message.has_error():
        error = message.error
        if error.code == INVALID_FAB:
            text = "the site does not run this coordinator's app: compare `nakt coordinator app` with policy.apps there"
            return [Reply(False, {"reason": "app_not_approved", "message": text})]
        return [unreachable(f"Flower error {error.code}: {(error.reason or 'no reason given').strip()[:300]}")]
    try:
        meta, data = message.content.config_records["meta"], message.content.array_records["blobs"]["all"].data
        blobs = _cut(data, meta["bytes"])
        if not isinstance(meta["json"], list) or len(meta["json"]) != len(blobs):
            raise AnswerError("a reply for each blob was expected")
        texts = [str(text) for text in meta["json"]]
        answer = Answer(message.metadata.reply_to_message_id, texts, [len(blob) for blob in blobs], data)
        if key and not is_answer_of(key, str(meta.get("signature")), answer):
            return [Reply(False, {"reason": "not_from_site"})]
        return [read_reply(text, blob) for text, blob in zip(texts, blobs, strict=True)]
    except (KeyError, AnswerError) as error:
        return [Reply(False, {"reason": "bad_reply", "message": f"not a reply of nakt-fed: {error}"})]


def _cut(data: bytes, sizes: object) -> list[bytes]:
    """The blobs of the replies, one behind the other. Raises AnswerError: no sizes that fit the bytes."""
    known = isinstance(sizes, list) and sizes and all(type(size) is int and size >= 0 for size in sizes)
    if not (isinstance(sizes, list) and known and sum(sizes) == len(data)):
        raise AnswerError(f"sizes of replies that make {len(data)} bytes were expected")
    ends = list(accumulate(sizes))
    return [data[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def unreachable(message: str) -> Reply:
    return Reply(False, {"reason": "unreachable", "message": message})
