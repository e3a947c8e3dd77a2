"""A SuperNode that works ahead: its loop is Flower's, its messages are lists."""

import time
from queue import SimpleQueue
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest

from nakt_fed.site import ahead as module
from nakt_fed.site.ahead import Ahead


def message(name: str, reply_to: str = "") -> Any:
    return SimpleNamespace(metadata=SimpleNamespace(message_id=name, reply_to_message_id=reply_to))


class Node:
    """Flower's loop around messages that wait; those in `torn` cannot be fetched whole. A reply leaves when it is `told`."""

    def __init__(self, count: int, depth: int, torn: tuple[int, ...] = ()) -> None:
        self.ahead = Ahead(depth)
        self.waiting = [str(number) for number in range(count)]
        self.torn = {str(number) for number in torn}
        self.fetched, self.sent, self.replies = list[str](), list[str](), SimpleQueue[str]()
        self.receive = self.ahead.receive(lambda: (message(self.waiting.pop(0)), "tree") if self.waiting else None)
        self.send = self.ahead.send(lambda reply: self.sent.append(reply.metadata.reply_to_message_id))

    def pull(self) -> int | None:
        given = self.receive()
        if given is None or given[0].metadata.message_id in self.torn:
            return None
        self.fetched.append(given[0].metadata.message_id)
        return 1

    def push(self) -> None:
        self.send(message("reply", self.replies.get()))

    def run(self) -> Thread:
        pull, push = self.ahead.pull(self.pull), self.ahead.push(self.push)

        def loop() -> None:
            while self.waiting:
                if pull() is not None:
                    push()

        thread = Thread(target=loop, daemon=True)
        thread.start()
        return thread


def until(what: Any) -> None:
    end = time.monotonic() + 5
    while not what():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_so_many_messages_are_fetched_before_one_is_answered(depth: int) -> None:
    node = Node(5, depth)
    node.run()
    until(lambda: len(node.fetched) == depth)
    time.sleep(0.02)
    assert len(node.fetched) == depth
    node.replies.put("0")
    until(lambda: len(node.fetched) == depth + 1)
    assert node.sent == ["0"]


def test_every_message_is_answered_once_and_in_any_order() -> None:
    node = Node(6, depth=2)
    thread = node.run()
    for reply in ("1", "0", "2", "3", "5", "4"):
        until(lambda reply=reply: reply in node.fetched)
        node.replies.put(reply)
    until(lambda: len(node.sent) == 6)
    thread.join(5)
    assert sorted(node.sent) == [str(number) for number in range(6)]


def test_a_message_that_cannot_be_fetched_holds_no_place() -> None:
    node = Node(5, depth=2, torn=(0, 1, 2))
    node.run()
    until(lambda: node.fetched == ["3", "4"])


def test_a_reply_that_cannot_be_sent_holds_no_place() -> None:
    ahead = Ahead()
    ahead.open = ["0"]

    def broken(reply: Any) -> None:
        raise RuntimeError("the run is over")

    with pytest.raises(RuntimeError):
        ahead.send(broken)(message("reply", "0"))
    assert ahead.open == []


def test_where_sending_breaks_the_supernode_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for ever; whoever started it starts it again."""
    ended = Event()
    monkeypatch.setattr(module.os, "kill", lambda pid, number: ended.set())
    ahead = Ahead(depth=2)
    ahead.open = ["0"]

    def broken() -> None:
        raise RuntimeError("no such thing")

    ahead.push(broken)()
    assert ended.wait(5)


def test_it_looks_often_after_a_message_and_seldom_when_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    ahead = Ahead()
    ahead.sleep(3)
    ahead.receive(lambda: (message("0"), "tree"))()
    ahead.sleep(3)
    ahead.sleep(0.5)
    assert slept == [3, module.OFTEN, module.SOON]
