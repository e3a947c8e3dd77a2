"""A SuperNode that works ahead: it fetches messages while earlier ones are worked on and their replies are sent.

Flower 1.41 does one after the other, sleeps 3 s when there is nothing to fetch, and looks for a reply each 0.5 s; over a slow
link that leaves it idle for most of the time. Nothing here knows Flower: `sites/guard.py` puts it around Flower's functions.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from threading import Condition, Thread
from typing import Any

DEPTH = 2
"""Messages that were fetched and have no reply yet: one is worked on, the next lies ready."""
EAGER = 30.0  # seconds after a message in which the next one is looked for often
IDLE, OFTEN, SOON = 3.0, 0.4, 0.05
"""Flower's sleep when there is nothing to fetch; ours after a message; ours where it waits for a ClientApp."""


class Ahead:
    """Wraps four functions of a SuperNode. `pull` fetches a message, `push` waits for its reply and sends it; `receive` and
    `send` are what these two call."""

    def __init__(self, depth: int = DEPTH) -> None:
        self.depth, self.changed = depth, Condition()
        self.open: list[str] = []  # messages without a reply, in the order in which they came
        self.last = -EAGER
        self.sender: Thread | None = None

    def receive(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Notes what comes."""

        def receive() -> Any:
            if given := function():
                self.last = time.monotonic()
                with self.changed:
                    self.open.append(given[0].metadata.message_id)
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
        """What could not be fetched whole has no reply to wait for."""

        def pull(**parts: Any) -> Any:
            before = list(self.open)
            run = function(**parts)
            if run is None:
                for message in [each for each in self.open if each not in before]:
                    self._close(message)
            return run

        return pull

    def push(self, function: Callable[..., Any]) -> Callable[..., None]:
        """Sends replies in a thread of its own; waits only while `depth` messages have none."""

        def push(**parts: Any) -> None:
            if not self.sender:
                self.sender = Thread(target=self._send_all, args=(function, parts), daemon=True)
                self.sender.start()
            with self.changed:
                self.changed.wait_for(lambda: len(self.open) < self.depth)

        return push

    def sleep(self, seconds: float) -> None:
        """Instead of `time.sleep` in the SuperNode."""
        eager = time.monotonic() - self.last < EAGER
        time.sleep(SOON if seconds < IDLE else OFTEN if eager else seconds)

    def _send_all(self, function: Callable[..., Any], parts: dict[str, Any]) -> None:
        try:
            while True:
                with self.changed:
                    self.changed.wait_for(lambda: bool(self.open))
                function(**parts)
        except Exception:  # the SuperNode would wait for ever; whoever started it starts it again
            traceback.print_exc(file=sys.stderr)
            os.kill(os.getpid(), signal.SIGTERM)

    def _close(self, message: str) -> None:
        with self.changed:
            self.open = [each for each in self.open if each != message]
            self.changed.notify_all()
