"""What a hostile coordinator could ship to a hospital: code that reads what it can and asks for what it must not have."""

import base64
import json
import os
import secrets
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from nakt_fed.exchange import Request
from nakt_fed.site.relay import ask_service

FLOOD = 300
app = ClientApp()


@app.query("attack")
def attack(message: Message, context: Context) -> Message:
    targets = json.loads(str(message.content.config_records["targets"]["json"]))
    service = Path(str(context.node_config["service"]))
    loot: dict[str, Any] = {name: reach(Path(path)) for name, path in targets.items()}
    loot["asked"] = {name: ask(service, request) for name, request in requests().items()}
    loot["flood"] = flood(service)
    loot["environment"] = sorted(os.environ)
    return Message(RecordDict({"loot": ConfigRecord({"json": json.dumps(loot)})}), reply_to=message)


def reach(path: Path) -> str:
    """Bytes of a file, names in a folder; or why not."""
    try:
        found = str(os.listdir(path)) if path.is_dir() else f"{len(path.read_bytes())} bytes"  # noqa: PTH208
    except OSError as error:
        return type(error).__name__
    return found


def requests() -> dict[str, Request]:
    """What nobody has signed."""
    order = {"kind": "offer", "set": "x", "chunk": 4, "manifest": "0" * 64, "pictures": 4, "run": "r", "issued": "now"}
    forged = {"order": json.dumps(order), "signature": base64.b64encode(secrets.token_bytes(64)).decode()}
    student = {"order": json.dumps({"kind": "evaluate", "student": "0" * 64, "run": "r"}), "signature": "AAAA"}
    manifest = {"set": "transferal", "manifest": "0" * 64}
    return {
        "unsigned offer": Request("offer", {"set": "x", "chunk": 4}, b"{}"),
        "forged offer": Request("offer", {"set": "x", "chunk": 4, **forged}, b"{}"),
        "pictures of no offer": Request("pictures", {**manifest, "chunk": 0}, b"x" * 1000),
        "masks of no offer": Request("masks", {**manifest, "range": [0, 4], "near": 0}),
        "forged student": Request("evaluate", {"network": {"network": "os:system"}, **student}, b"x" * 1000),
        "too large": Request("offer", {}, bytes(300 * 2**20)),
        "a path for a set": Request("masks", {**manifest, "set": "../../site.toml", "range": [0, 4]}),
    }


def ask(service: Path, request: Request) -> str:
    with suppress(Exception):
        reply = ask_service(service, request, 20, patience=5)
        return "ok" if reply.ok else str(reply.meta.get("reason"))
    return "no reply"


def flood(service: Path) -> dict[str, Any]:
    """Connections that say nothing, or garbage without end, held for some seconds."""
    with ExitStack() as stack:
        held = 0
        for number in range(FLOOD):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            sock.settimeout(0.2)
            with suppress(OSError):
                sock.connect(str(service))
                sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n" if number % 2 else b"\0" * 100_000)
                held += 1
        time.sleep(3)
        return {"connected": held, "hello meanwhile": ask(service, Request("hello"))}
