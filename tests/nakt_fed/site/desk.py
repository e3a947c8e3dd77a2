"""A teacher service's desk in a thread of the test, in front of any handler."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nakt_fed.exchange import Reply, Request
from nakt_fed.site.cache import Handler
from nakt_fed.site.desk import LIMIT, Desk
from nakt_fed.site.local_socket import listening
from nakt_fed.site.serve import STOPS, answer, server_of


class Echo:
    """Answers with what it was asked; `before` is called first."""

    def __init__(self, before: Callable[[Request], None] = lambda request: None) -> None:
        self.before = before
        self.asked: list[Request] = []

    def handle(self, request: Request) -> Reply:
        self.asked.append(request)
        self.before(request)
        return Reply(True, {"kind": request.kind, **request.meta}, request.blob)


@contextmanager
def served(handler: Handler, path: Path, limit: int = LIMIT) -> Iterator[Desk]:
    """The handler behind a socket at `path` while the block lasts."""
    desk = Desk(handler, limit)
    server = server_of(desk)
    with listening(path) as sock:
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield desk
        finally:
            server.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def serve_echo(path: Path, seconds: float = 0.0) -> None:
    """A process's whole life: answers at `path`, so many seconds per request, until it is stopped."""
    for stop in STOPS:
        signal.signal(stop, lambda *_: sys.exit(0))
    answer(Desk(Echo(lambda request: time.sleep(seconds))), path, "echo")
