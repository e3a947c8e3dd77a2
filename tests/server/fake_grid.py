"""A Grid whose nodes are functions in this process; time is counted in looks for replies, never in seconds."""

from collections.abc import Callable, Iterable, Mapping
from itertools import count

from flwr.app import Message
from flwr.app.error import Error
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

Node = Callable[[Message], Message]


def be_a_task() -> None:
    """Outside Flower a Message has no identity to take; this interface is private to Flower 1.41."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def offline(message: Message) -> Message:
    return Message(Error(ErrorCode.NODE_UNAVAILABLE, "node went away"), reply_to=message)


class FakeGrid(Grid):
    """`slowness[node]` looks go by until a node's reply is there. `gone` nodes are refused when a message is pushed."""

    def __init__(self, nodes: Mapping[int, Node], slowness: Mapping[int, int] | None = None, gone: Iterable[int] = ()):
        be_a_task()
        self.nodes, self.slowness, self.gone = dict(nodes), dict(slowness or {}), set(gone)
        self.pushed: list[Message] = []
        self.waiting: dict[str, tuple[Message, int]] = {}
        self.most_waiting: dict[int, int] = {}
        self._ids = count()

    def set_run(self, run: Run) -> None: ...

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def get_nodes(self) -> Iterable[NodeInfo]:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            node = message.metadata.dst_node_id
            if node in self.gone:
                continue
            message.metadata.__dict__["_message_id"] = str(next(self._ids))
            self.pushed.append(message)
            self.waiting[message.metadata.message_id] = (message, self.slowness.get(node, 0))
            now = sum(1 for other, _ in self.waiting.values() if other.metadata.dst_node_id == node)
            self.most_waiting[node] = max(now, self.most_waiting.get(node, 0))
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        (message_id,) = message_ids  # one at a time, so that one reply at a time is in memory
        message, looks = self.waiting[message_id]
        if looks:
            self.waiting[message_id] = (message, looks - 1)
            return []
        del self.waiting[message_id]
        return [self.nodes[message.metadata.dst_node_id](message)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError
