"""What is asked of the status page and not answered: anything but GET, and names that are not this machine's own."""

import ipaddress
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """Around an ASGI app: only GET (405 else), strict headers on every answer.

    With `local` a request has to call this machine by a loopback name (421 else): a page of another site in the same
    browser, whose own name was made to point here (DNS rebinding), is told nothing.
    """

    def __init__(self, app: ASGIApp, policy: str, *, local: bool) -> None:
        self.app, self.local = app, local
        self.headers = {**HEADERS, "content-security-policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        await (self._refusal(scope) or self.app)(scope, receive, strict)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        if self.local and not asks_loopback(scope["headers"]):
            return PlainTextResponse("this page is for this machine only; open the address that was printed\n", 421)
        if scope["method"] != "GET":
            return PlainTextResponse("this page can only be read\n", 405, {"allow": "GET"})
        return None


def asks_loopback(headers: list[tuple[bytes, Any]]) -> bool:
    """Whether the one Host header names this machine itself: localhost or a loopback address, with any port (ssh forwards)."""
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    return len(hosts) == 1 and is_loopback(_without_port(hosts[0]))


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if name and port.isascii() and port.isdigit() and (name.startswith("[") or ":" not in name) else host


def is_loopback(host: str) -> bool:
    """Whether a host's name or address, IPv6 also in brackets, stands for this machine alone.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "[::1]", "0.0.0.0", "localhost.evil.example")]
    [True, True, True, False, False]
    """
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
