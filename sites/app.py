"""The Flower ClientApp of a site: turns a message into a Request, asks the teacher service, turns the Reply back.

Nothing here protects a hospital: this code comes from the coordinator. The rules live in the service.
"""

import logging
import secrets
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from nakt_fed.exchange import Reply, Request
from nakt_fed.site.relay import ask_service
from nakt_fed.wire import KINDS, read_request, reply_text

WAIT = 3600.0  # seconds for one answer; the coordinator gives up when it wants to

app = ClientApp()
log = logging.getLogger("flwr")


def query(message: Message, context: Context) -> Message:
    """One handler for every kind. An exception stays at the site; only a reference number leaves it."""
    try:
        return Message(content(answer(read(message), context)), reply_to=message)
    except Exception:
        reference = secrets.token_hex(4)
        log.exception("request failed, reference %s", reference)
        text = f"the site could not answer; its log tells why, reference {reference}"
        reply = Reply(False, {"reason": "internal", "message": text, "reference": reference})
        return Message(content(reply), reply_to=message)


for _kind in KINDS:
    app.query(_kind)(query)


def read(message: Message) -> Request:
    kind = message.metadata.message_type.removeprefix("query.")
    records = message.content
    return read_request(kind, str(records.config_records["meta"]["json"]), records.array_records["blob"]["blob"].data)


def content(reply: Reply) -> RecordDict:
    """A blob of bytes goes as an Array: three times faster in Flower than bytes in a ConfigRecord."""
    blob = ArrayRecord({"blob": Array("uint8", (len(reply.blob),), "bytes", reply.blob)})
    return RecordDict({"meta": ConfigRecord({"json": reply_text(reply)}), "blob": blob})


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
    from nakt_fed.service import open_service  # torch: only where a request is answered
    from nakt_fed.study_file import load_study

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
