"""From a ClientApp to the teacher service of its site: one request over the local socket, one reply back.

Standard library only: a ClientApp is started for every message.
"""

import socket
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from nakt_fed.exchange import Reply, Request
from nakt_fed.site.frame import read_reply_frame, request_frame

PATIENCE = 30.0
"""Seconds: a service that was killed is back by then."""
PAUSE = 0.2


class _Connection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("site", timeout=timeout)
        self.path, self.seconds = path, timeout

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.seconds)
        self.sock.connect(str(self.path))


def ask_service(path: Path, request: Request, timeout: float, patience: float = PATIENCE) -> Reply:
    """Ask; again until `patience` seconds are over when nobody listens, the connection breaks or others keep it busy.

    Args:
        path: the service's socket.
        timeout: seconds that the service may take for an answer.

    Returns:
        the service's reply; or not ok with the reason `no_service` (nobody answers) or `no_answer` (not in time).

    Raises:
        AnswerError: what listens there is no teacher service, or one of another version.
    """
    frame, end = request_frame(request), time.monotonic() + patience
    while True:
        reply = _try(path, frame, timeout)
        if reply.ok or reply.meta.get("reason") not in ("no_service", "busy") or time.monotonic() > end:
            return reply
        time.sleep(PAUSE)


def _try(path: Path, frame: bytes, timeout: float) -> Reply:
    try:
        with closing(_Connection(path, timeout)) as connection:
            connection.connect()
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before it was read; the reply says why
                connection.request("POST", "/", frame)
            answer = connection.getresponse().read()
    except TimeoutError:
        text = f"the site's teacher service did not answer within {timeout:.0f} s; ask for smaller chunks"
        return Reply(False, {"reason": "no_answer", "message": text})
    except (OSError, HTTPException):
        text = "no teacher service answers at the site; start it with `nakt site serve`"
        return Reply(False, {"reason": "no_service", "message": text})
    return read_reply_frame(answer)
