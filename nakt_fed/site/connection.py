"""A connection to the teacher service, with the bounds that a hostile client meets before it has said anything."""

import socket
import struct
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS, OWN_CONNECTIONS = 64, 8  # in all, and of one process
BEGIN, TAKE = 5.0, 30.0  # seconds a client has to begin its request, and to take the reply


class Line(H11Protocol):
    """A connection; it is cut when it says nothing, when its reply is not taken, or when it is one too many.

    The app finds it in `scope["state"]["line"]`.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "line": self}
        self.peer = peer(transport)
        self.timer = self.loop.call_later(BEGIN, lambda: None if self.cycle else self.cut())
        own = sum(isinstance(line, Line) and line.peer == self.peer for line in self.connections)
        if len(self.connections) > CONNECTIONS or own > OWN_CONNECTIONS:
            self.cut()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.timer.cancel()
        self.timer = self.loop.call_later(TAKE, self.cut)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.timer.cancel()  # it would keep what was received in memory

    def cut(self) -> None:
        self.transport.abort()


def peer(transport: Any) -> int:
    """The process on the other side; where the system does not say, every connection is another."""
    if not hasattr(socket, "SO_PEERCRED"):
        return id(transport)
    sock = transport.get_extra_info("socket")
    return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
