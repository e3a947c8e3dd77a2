"""The sites behind Flower's Grid: `nakt_fed.exchange.Sites` in terms of messages, and which node is which site."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from nakt_fed.errors import AnswerError, RunError
from nakt_fed.exchange import Exchange, Reply, Request
from nakt_fed.wire import read_reply, request_text

SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.2  # seconds between two looks for replies
SHARED_BLOBS = 8  # records kept so that sites which are asked the same thing at about the same time share one


def blob_record(blob: bytes) -> ArrayRecord:
    """Flower's record of raw bytes; Arrays are three times faster than bytes in a ConfigRecord."""
    return ArrayRecord({"blob": Array("uint8", (len(blob),), "bytes", blob)})


def read_message(message: Message) -> Reply:
    """The site's reply, or why there is none: Flower's own error, or an answer that is no reply of ours."""
    if message.has_error():
        error = message.error
        return unreachable(f"Flower error {error.code}: {(error.reason or 'no reason given').strip()[:300]}")
    try:
        content = message.content
        return read_reply(str(content.config_records["meta"]["json"]), content.array_records["blob"]["blob"].data)
    except (KeyError, AnswerError) as error:
        return Reply(False, {"reason": "bad_reply", "message": f"not a reply of nakt-fed: {error}"})


def unreachable(message: str) -> Reply:
    return Reply(False, {"reason": "unreachable", "message": message})


@dataclass(frozen=True)
class _Sent:
    site: str
    request: Request
    start: float


class FlowerSites:
    """`Sites` over a Grid. `in_flight` messages per site at most; `ttl` seconds until Flower gives a message up.

    `extra` goes into the meta of every message but is no part of the Request (the simulation's run folder).
    """

    def __init__(
        self, grid: Grid, node_ids_by_site: Mapping[str, int], in_flight: int, ttl: float, extra: Mapping[str, Any]
    ) -> None:
        self.names = list(node_ids_by_site)
        self._grid, self._nodes = grid, dict(node_ids_by_site)
        self._in_flight, self._ttl, self._extra = in_flight, ttl, dict(extra)

    def exchange(self, requests: Mapping[str, Iterator[Request]]) -> Iterator[Exchange]:
        """Ask every site what its iterator brings; yield the replies in the order in which they arrive.

        A site's next request goes out before its reply is yielded, so no site waits for the caller or for another site.
        """
        queues = {site: iter(each) for site, each in requests.items()}
        record = lru_cache(SHARED_BLOBS)(blob_record)
        sent: dict[str, _Sent] = {}
        for site in queues:
            for _ in range(self._in_flight):
                yield from self._send_next(site, queues, sent, record)
        pause = SHORTEST_PAUSE
        while sent:
            arrived = False
            for message_id in list(sent):
                for message in self._grid.pull_messages([message_id]):
                    arrived, done = True, sent.pop(message_id)
                    refused = list(self._send_next(done.site, queues, sent, record))
                    yield Exchange(done.site, done.request, read_message(message), time.monotonic() - done.start)
                    yield from refused
            pause = SHORTEST_PAUSE if arrived else min(LONGEST_PAUSE, 1.3 * pause)
            if not arrived:
                time.sleep(pause)

    def _send_next(
        self,
        site: str,
        queues: Mapping[str, Iterator[Request]],
        sent: dict[str, _Sent],
        record: Callable[[bytes], ArrayRecord],
    ) -> Iterator[Exchange]:
        """Send the site's next request. Requests that Flower refuses are answered at once, until one is taken."""
        for request in queues[site]:
            start = time.monotonic()
            ids = list(self._grid.push_messages([self._message(site, request, record(request.blob))]))
            if ids and ids[0]:
                sent[ids[0]] = _Sent(site, request, start)
                return
            yield Exchange(site, request, unreachable("Flower does not know the site's node any more"), 0.0)

    def _message(self, site: str, request: Request, blob: ArrayRecord) -> Message:
        text = request_text(Request(request.kind, {**self._extra, **request.meta}))
        content = RecordDict({"meta": ConfigRecord({"json": text}), "blob": blob})
        return Message(content, self._nodes[site], f"query.{request.kind}", ttl=self._ttl)


def find_sites(grid: Grid, expected: list[str], deadline: float, extra: Mapping[str, Any]) -> dict[str, int]:
    """Say hello to every node that comes until each expected site has answered with its name (meta `site`).

    A node that is none of the expected sites is left alone. `deadline` in seconds.

    Raises:
        RunError: a site did not come in time, two nodes call themselves the same, or a node refuses, with its reason.
    """
    found: dict[str, int] = {}
    asked: set[int] = set()
    end = time.monotonic() + deadline
    while missing := [name for name in expected if name not in found]:
        left = end - time.monotonic()
        if left <= 0:
            raise RunError(_missing(missing, deadline, len(asked)))
        fresh = [node for node in grid.get_node_ids() if node not in asked]
        for node, reply in _say_hello(grid, fresh, left, extra):
            _enter(found, expected, node, reply)
        asked.update(fresh)
        if not fresh:
            time.sleep(LONGEST_PAUSE)
    return {name: found[name] for name in expected}


def _say_hello(grid: Grid, nodes: list[int], ttl: float, extra: Mapping[str, Any]) -> Iterator[tuple[int, Reply]]:
    anyone = FlowerSites(grid, {str(node): node for node in nodes}, 1, ttl, extra)
    for exchange in anyone.exchange({name: iter([Request("hello")]) for name in anyone.names}):
        yield int(exchange.site), exchange.reply


def _enter(found: dict[str, int], expected: list[str], node: int, reply: Reply) -> None:
    if reply.meta.get("reason") in ("unreachable", "no_site"):
        return
    if not reply.ok:
        raise RunError(f"a site refused to take part: {reply.meta.get('message', reply.meta.get('reason'))}")
    name = reply.meta.get("site")
    if name in found:
        raise RunError(f"two nodes call themselves site {name!r}; give each site its own name")
    if name in expected:
        found[str(name)] = node


def _missing(missing: list[str], deadline: float, nodes: int) -> str:
    names = ", ".join(repr(name) for name in missing)
    return (
        f"site {names} did not come within {deadline:.0f} s ({nodes} nodes did); start it, and look that it is called "
        "in its own file what the study calls it"
    )
