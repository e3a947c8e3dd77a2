"""The desk before a site's handler, as an ASGI app: one POST with a frame, one request worked on at a time.

Whoever may open the socket may be hostile (the ClientApp's code comes from the coordinator), so everything that a
connection can hold on to has a bound: connections, bytes, places in the queue, seconds to send and to take.
"""

import asyncio
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from nakt_fed.errors import AnswerError
from nakt_fed.exchange import Reply, Request
from nakt_fed.site.cache import Handler
from nakt_fed.site.connection import TAKE, Line
from nakt_fed.site.frame import read_request_frame, reply_frame

LIMIT = 64 * 2**20  # bytes of a request
STUDENT_LIMIT = 256 * 2**20  # where a student may be sent: a U-Net of width 64 has 124 MB
PLACES = 4  # requests that are held at once: one is worked on, the others wait
SEND = 10.0  # seconds a client has to send its request
PACE = 0.1  # seconds from one piece of work to the next: every one leaves a line in the receipts
PIECE = 2**18  # bytes of a reply that are written at once


class Refused(Exception):
    """A request that is not even read: its reason code, and words that may leave the site."""


class Desk:
    """The ASGI app: takes requests in, lets the handler work on one after the other, gives the replies out."""

    def __init__(self, handler: Handler, limit: int = LIMIT) -> None:
        self.handler, self.limit = handler, limit
        self.taken = set[int]()  # the processes that have a place: one flood of one process leaves room for others
        self.refused, self.working, self.began = 0, False, 0.0
        self.turn = asyncio.Lock()
        self.worker = ThreadPoolExecutor(1)  # always the same thread: torch keeps its threads per calling one

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        line = scope["state"]["line"]
        if line.peer in self.taken or len(self.taken) >= PLACES:
            self.refused += 1
            await self._give(line, send, _refusal("busy", "the site works on other requests; ask again"))
            return
        self.taken.add(line.peer)
        try:
            await self._give(line, send, await self._reply(scope, receive))
        except (TimeoutError, ConnectionError, asyncio.CancelledError):  # cancelled: the service is stopped
            line.cut()
        finally:
            self.taken.remove(line.peer)

    async def _reply(self, scope: Any, receive: Any) -> Reply:
        try:
            async with asyncio.timeout(SEND):
                request = read_request_frame(await self._body(scope, receive))
        except Refused as refused:
            self.refused += 1
            return _refusal(*refused.args)
        except AnswerError:
            self.refused += 1
            return _refusal("bad_request", "the site cannot read this request; run the same nakt-fed on both sides")
        async with self.turn:
            await asyncio.sleep(self.began + PACE - time.monotonic())
            self.began = time.monotonic()
            if scope["state"]["line"].transport.is_closing():
                raise ConnectionError  # nobody waits for the answer any more
            return await self._work(request)

    async def _body(self, scope: Any, receive: Any) -> bytes:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if scope["method"] != "POST":
            raise Refused("bad_request", "only POST is answered here")
        body, more = bytearray(), True
        while more:
            if max(int(declared), len(body)) > self.limit:
                raise Refused("too_large", f"a request may have {self.limit} bytes; send smaller chunks")
            part = await receive()
            if part["type"] != "http.request":
                raise ConnectionError
            body += part["body"]
            more = part.get("more_body", False)
        return bytes(body)

    async def _work(self, request: Request) -> Reply:
        began = time.monotonic()
        try:
            reply = await asyncio.get_running_loop().run_in_executor(self.worker, self._handle, request)
        except Exception as error:  # a handler never raises; should one do so, its words stay here
            reply = Reply(False, {"reason": "internal", "reference": secrets.token_hex(4)})
            say(f"{type(error).__name__}, reference {reply.meta['reference']}")
        outcome = "ok" if reply.ok else str(reply.meta.get("reason"))
        others = f" (and {self.refused} refused unread)" if self.refused else ""
        self.refused = 0
        say(f"{request.kind} {outcome} {time.monotonic() - began:.2f} s{others}")
        return reply

    def _handle(self, request: Request) -> Reply:
        self.working = True
        try:
            return self.handler.handle(request)
        finally:
            self.working = False

    async def _give(self, line: Line, send: Any, reply: Reply) -> None:
        """In pieces, each of which waits until the client has taken the ones before."""
        data = reply_frame(reply)
        headers = [(b"content-length", str(len(data)).encode()), (b"connection", b"close")]
        async with asyncio.timeout(TAKE):
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for start in range(0, len(data), PIECE):
                more = start + PIECE < len(data)
                await send({"type": "http.response.body", "body": data[start : start + PIECE], "more_body": more})


def _refusal(reason: str, message: str) -> Reply:
    return Reply(False, {"reason": reason, "message": message})


def say(text: str) -> None:
    """No private name, no path, no picture's id. A log that cannot be written, on a full disk, is no reason not to answer."""
    with suppress(OSError):
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}", file=sys.stderr, flush=True)
