"""The Flower ClientApp of a site: turns a message into Requests, asks the teacher service, turns the Replies back.

Nothing here protects a hospital: this code comes from the coordinator. The rules live in the service.
"""

import logging
import os
import secrets
import time
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from nakt_fed.errors import AnswerError, RunError
from nakt_fed.exchange import Reply, Request
from nakt_fed.signing import SITE_KEY, Answer, sign_answer
from nakt_fed.site.relay import ask_service
from nakt_fed.wire import read_request, reply_text

WAIT = 3600.0  # seconds for one answer; the coordinator gives up when it wants to
ENOUGH_SECONDS, ENOUGH_BYTES = 20.0, 16e6  # of one message; what it asks beyond, the coordinator asks again

app = ClientApp()
log = logging.getLogger("flwr")


@app.query()
def query(message: Message, context: Context) -> Message:
    """One handler for every kind. An exception stays at the site; only a reference number leaves it."""
    try:
        record = content(answers(read(message), context), message.metadata.message_id)
    except Exception:
        reference = secrets.token_hex(4)
        log.exception("request failed, reference %s", reference)
        text = f"the site could not answer; its log tells why, reference {reference}"
        reply = Reply(False, {"reason": "internal", "message": text, "reference": reference})
        record = content([reply], message.metadata.message_id)
    return Message(record, reply_to=message)


def read(message: Message) -> list[Request]:
    arrays, texts = message.content.array_records["blobs"], message.content.config_records["meta"]["json"]
    if not isinstance(texts, list) or not texts:
        raise AnswerError("a message of nakt-fed holds a list of requests")
    return [
        read_request(str(text), arrays[str(place)].data if str(place) in arrays else b"")
        for place, text in enumerate(texts)
    ]


def answers(requests: list[Request], context: Context) -> list[Reply]:
    """One after the other, at least the first: until one is refused, or the message has enough answers. What brings pictures is
    taken in any case: it would be sent again."""
    replies: list[Reply] = []
    end, size = time.monotonic() + ENOUGH_SECONDS, 0
    for request in requests:
        if replies and not request.blob and (size > ENOUGH_BYTES or time.monotonic() > end):
            break
        replies.append(answer(request, context))
        size += len(replies[-1].blob)
        if not replies[-1].ok:
            break
    return replies


def content(replies: list[Reply], message: str = "") -> RecordDict:
    """All blobs as one Array: three times faster in Flower than bytes in a ConfigRecord, and every Array costs a round trip."""
    blob = b"".join(reply.blob for reply in replies)
    texts, sizes = [reply_text(reply) for reply in replies], [len(reply.blob) for reply in replies]
    meta = ConfigRecord({"json": texts, "bytes": sizes, "signature": signature(Answer(message, texts, sizes, blob))})
    return RecordDict({"meta": meta, "blobs": ArrayRecord({"all": Array("uint8", (len(blob),), "bytes", blob)})})


def signature(answer: Answer) -> str:
    """The site's, with the key by which the coordinator knows it; empty in a simulation, or where it cannot be read."""
    if not (key := os.environ.get(SITE_KEY)):
        return ""
    try:
        return sign_answer(Path(key), answer)
    except RunError:
        log.exception("the answer is not signed")
        return ""


def answer(request: Request, context: Context) -> Reply:
    """Ask the service: in simulation the one of the node's site, in this process; else the one on the site's socket."""
    if "partition-id" not in context.node_config:
        return relayed(request, context)
    node, nodes = (int(str(context.node_config[key])) for key in ("partition-id", "num-partitions"))
    return simulated(request, node, nodes)


def relayed(request: Request, context: Context) -> Reply:
    """The SuperNode was told where the teacher service listens (--node-config 'service="…"')."""
    socket = context.node_config.get("service")
    if not isinstance(socket, str):
        text = "the site's SuperNode was not told where its teacher service listens; start it with `nakt site start`"
        return Reply(False, {"reason": "no_service", "message": text})
    return ask_service(Path(socket), request, WAIT)


def simulated(request: Request, node: int, nodes: int) -> Reply:
    """Node i of a simulation is site i of the study in the run folder that the message names."""
    from nakt_fed.simulated_site import open_service  # torch: only where a request is answered
    from nakt_fed.study.file import load_study

    run = Path(request.meta["run"])
    study = load_study(run / "study.toml")
    if nodes < len(study.site):
        text = f"the study has {len(study.site)} sites, the simulation only {nodes} nodes"
        remedy = f"start it with --federation-config 'num-supernodes={len(study.site)}'"
        return Reply(False, {"reason": "too_few_nodes", "message": f"{text}; {remedy}"})
    if node >= len(study.site):
        return Reply(False, {"reason": "no_site", "message": f"the study has no site for node {node}"})
    own = {key: value for key, value in request.meta.items() if key != "run"}
    return open_service(study, study.site[node].name, run).handle(Request(request.kind, own, request.blob))
