"""A SuperNode that works ahead: it fetches messages, two at a time, while earlier ones are worked on and their replies sent.

Flower 1.41 does one after the other, sleeps 3 s when there is nothing to fetch, and looks for a reply each 0.5 s; over a slow
link that leaves it idle for most of the time. `sites/guard.py` gives it the module of Flower's SuperNode; nothing of Flower is imported here.
"""

import inspect
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from threading import Condition, Thread, local
from types import SimpleNamespace
from typing import Any

DEPTH = 3
"""Messages without a reply: two are fetched, so that the link is used while one of them waits for the other side; one is
worked on."""
EAGER = 30.0  # seconds after a message in which the next one is looked for often
IDLE, OFTEN, SOON = 3.0, 0.4, 0.05
"""Flower's sleep when there is nothing to fetch; ours after a message; ours where it waits for a ClientApp."""


WRAPPED = {"_pull_and_store_message": "receive", "_push_messages": "send", "pull_objects": "object_ids"}
"""Flower's functions that are wrapped, each with an argument that it must have."""


class Ahead:
    """Wraps four functions of a SuperNode. `pull` fetches a message, `push` waits for its reply and sends it; `receive` and
    `send` are what these two call."""

    def __init__(self, depth: int = DEPTH) -> None:
        self.depth, self.changed = depth, Condition()
        self.open: list[str] = []  # messages without a reply, in the order in which they came
        self.last = -EAGER
        self.helpers: list[Thread] = []
        self._own = local()  # the message that this thread fetches

    def receive(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Notes what comes."""

        def receive() -> Any:
            if given := function():
                self.last = time.monotonic()
                self._own.message = given[0].metadata.message_id
                with self.changed:
                    self.open.append(self._own.message)
                    self.changed.notify_all()
            return given

        return receive

    def send(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Notes what is answered, also where the answer cannot be sent."""

        def send(message: Any, *arguments: Any) -> Any:
            try:
                return function(message, *arguments)
            finally:
                self._close(message.metadata.reply_to_message_id)

        return send

    def pull(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Once the first message has come, a second thread fetches too."""

        def pull(**parts: Any) -> Any:
            run = self._fetch(function, parts)
            if run is not None and not self.helpers:
                self._help(lambda: self._fetch_too(function, parts))
            return run

        return pull

    def push(self, function: Callable[..., Any]) -> Callable[..., None]:
        """Replies are sent by a thread of its own; this waits only while `depth` messages have none."""

        def push(**parts: Any) -> None:
            if len(self.helpers) < 2:
                self._help(lambda: self._send_next(function, parts))
            self._wait(lambda: len(self.open) < self.depth)

        return push

    def sleep(self, seconds: float) -> None:
        """Instead of `time.sleep` in the SuperNode."""
        eager = time.monotonic() - self.last < EAGER
        time.sleep(SOON if seconds < IDLE else OFTEN if eager else seconds)

    def _fetch(self, function: Callable[..., Any], parts: dict[str, Any]) -> Any:
        """What could not be fetched whole has no reply to wait for."""
        self._own.message = ""
        run = function(**parts)
        if run is None:
            self._close(self._own.message)
        return run

    def _fetch_too(self, function: Callable[..., Any], parts: dict[str, Any]) -> None:
        self._wait(lambda: 0 < len(self.open) < self.depth)
        if self._fetch(function, parts) is None:
            self.sleep(IDLE)

    def _send_next(self, function: Callable[..., Any], parts: dict[str, Any]) -> None:
        self._wait(lambda: bool(self.open))
        function(**parts)

    def _help(self, work: Callable[[], None]) -> None:
        """Do this again and again in a thread of its own."""

        def repeat() -> None:
            try:
                while True:
                    work()
            except Exception:  # the SuperNode would wait for ever; whoever started it starts it again
                traceback.print_exc(file=sys.stderr)
                os.kill(os.getpid(), signal.SIGTERM)

        self.helpers.append(Thread(target=repeat, daemon=True))
        self.helpers[-1].start()

    def _wait(self, until: Callable[[], bool]) -> None:
        with self.changed:
            self.changed.wait_for(until)

    def _close(self, message: str) -> None:
        with self.changed:
            self.open = [each for each in self.open if each != message]
            self.changed.notify_all()


def work_ahead(module: Any) -> Ahead | None:
    """Let Flower's SuperNode, which is this module, work ahead; None, and nothing is changed, where it is another Flower's."""
    if any(word not in _arguments(getattr(module, name, None)) for name, word in WRAPPED.items()):
        return None
    ahead = Ahead()
    module._pull_and_store_message = ahead.pull(module._pull_and_store_message)
    module._push_messages = ahead.push(module._push_messages)
    module.pull_objects = partial(module.pull_objects, initial_backoff=0.2, backoff_cap=2.0)
    module.time = SimpleNamespace(sleep=ahead.sleep)
    return ahead


def _arguments(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters) if function else []
