"""Half a SuperNode of our own, with the key of any site: what somebody would write who wants to answer for another one."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import Message, RecordDict
from flwr.app.message.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PushMessagesRequest
from flwr.proto.message_pb2 import PullObjectRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_children_ids_from_object_content,
    get_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from tests.deployment.federation import Federation
from tests.deployment.running import wait_for


@dataclass
class Rogue:
    """Connected with one site's key. What goes from site to site it cannot see; `waiting` reads it from the coordinator's disk."""

    client: FleetHttpClient
    node: Node

    def pull(self, run: int, object_id: str) -> Message:
        """A message by its id; Flower does not ask for whom it was."""
        contents: dict[str, bytes] = {}

        def fetch(each: str) -> None:
            asked = PullObjectRequest(node=self.node, run_id=run, object_id=each)
            contents[each] = wait_for(lambda: self.client.PullObject(asked).object_content, 10, "a part of a message")
            for child in get_object_children_ids_from_object_content(contents[each]):
                fetch(child)

        fetch(object_id)
        message = inflate_object_from_contents(object_id, contents)
        assert isinstance(message, Message)
        return message

    def answer(self, asked: dict[str, Any], content: RecordDict) -> None:
        """Reply to a message in the name of the node that it was for."""
        about = Metadata(
            run_id=asked["run_id"],
            message_id="",
            src_node_id=asked["dst_node_id"],
            dst_node_id=SUPERLINK_NODE_ID,
            reply_to_message_id=asked["message_id"],
            group_id="",
            created_at=time.time(),
            ttl=asked["created_at"] + asked["ttl"] - time.time() - 1,
            message_type=asked["message_type"],
        )
        message = make_message(about, content)
        about.__dict__["_message_id"] = message.object_id
        told = self.client.PushMessages(
            PushMessagesRequest(
                node=self.node,
                messages_list=[message_to_proto(remove_content_from_message(message))],
                message_object_trees=[get_object_tree(message)],
                clientapp_runtime_list=[0.1],
            )
        )
        for object_id, each in get_all_nested_objects(message).items():
            if object_id in told.objects_to_push:
                self.client.PushObject(
                    PushObjectRequest(
                        node=self.node,
                        run_id=asked["run_id"],
                        session_id=told.session_id,
                        object_id=object_id,
                        object_content=each.deflate(),
                    )
                )


def client_of(federation: Federation, name: str) -> tuple[FleetHttpClient, bytes]:
    """Flower's client with this site's key, and its public half."""
    key: Any = load_ssh_private_key((federation.root / name / "site.key").read_bytes(), None)
    signed = [RuntimeVersionHttpInterceptor(component_name="SuperNode"), NodeAuthHttpInterceptor(key, key.public_key())]
    authority = (federation.kit / "ca.crt").read_bytes()
    client = FleetHttpClient.from_server_address(f"127.0.0.1:{federation.port}", False, authority, interceptors=signed)
    return client, public_key_to_bytes(key.public_key())


@contextmanager
def rogue(federation: Federation, name: str, *, beside: bool = False) -> Iterator[Rogue]:
    """Connected in the place of this site's SuperNode, or `beside` one that is connected already."""
    client, public = client_of(federation, name)
    with client:
        if not beside:
            client.ActivateNode(ActivateNodeRequest(public_key=public, heartbeat_interval=60))
        yield Rogue(client, Node(node_id=node_of(federation, name)))


def node_of(federation: Federation, name: str) -> int:
    """The site's number in Flower."""
    registered = json.loads((federation.kit / "state" / "registered.json").read_text())
    return int(registered[(federation.kit / "sites" / f"{name}.pub").read_text()])


def rows(federation: Federation, query: str) -> list[dict[str, Any]]:
    """From the SuperLink's database, numbers as Flower's interfaces have them."""
    path = Path(federation.kit / "state" / "superlink.db")
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as base:
        base.row_factory = sqlite3.Row
        found = [dict(row) for row in base.execute(query)]
    base.close()
    ids = ("run_id", "src_node_id", "dst_node_id")
    return [{key: value % 2**64 if key in ids else value for key, value in row.items()} for row in found]


def waiting(federation: Federation) -> list[dict[str, Any]]:
    """Questions that no site has taken yet."""
    return rows(federation, "SELECT * FROM message_ins WHERE delivered_at = '' AND message_type = 'query'")


def replies(federation: Federation) -> list[dict[str, Any]]:
    """Answers that the coordinator has not taken yet."""
    return rows(federation, "SELECT * FROM message_res WHERE delivered_at = '' AND message_type = 'query'")
