"""The sites behind Flower's Grid: `nakt_fed.exchange.Sites` in terms of messages, and which node is which site."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from nakt_fed.errors import AnswerError, RunError
from nakt_fed.exchange import Exchange, Reply, Request
from nakt_fed.wire import read_reply, request_text

from .presence import PAUSES, Presence

Record = Callable[[bytes], ArrayRecord]
Stamp = Callable[[str, Request], Mapping[str, Any]]

INVALID_FAB = 7  # Flower's code for a bundle that a site has not approved
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.2  # seconds between two looks for replies
SHARED_BLOBS = 8  # records kept so that sites which are asked the same thing at about the same time share one


def blob_record(blob: bytes) -> ArrayRecord:
    """Flower's record of raw bytes; Arrays are three times faster than bytes in a ConfigRecord."""
    return ArrayRecord({"blob": Array("uint8", (len(blob),), "bytes", blob)})


def read_message(message: Message) -> Reply:
    """The site's reply, or why there is none: Flower's own error, or an answer that is no reply of ours."""
    if message.has_error():
        error = message.error
        if error.code == INVALID_FAB:
            text = "the site does not run this coordinator's app: compare `nakt coordinator app` with policy.apps there"
            return Reply(False, {"reason": "app_not_approved", "message": text})
        return unreachable(f"Flower error {error.code}: {(error.reason or 'no reason given').strip()[:300]}")
    try:
        content = message.content
        return read_reply(str(content.config_records["meta"]["json"]), content.array_records["blob"]["blob"].data)
    except (KeyError, AnswerError) as error:
        return Reply(False, {"reason": "bad_reply", "message": f"not a reply of nakt-fed: {error}"})


def unreachable(message: str) -> Reply:
    return Reply(False, {"reason": "unreachable", "message": message})


def with_meta(extra: Mapping[str, Any]) -> Stamp:
    """The request's own meta, and this."""
    return lambda site, request: {**extra, **request.meta}


@dataclass(frozen=True)
class _Sent:
    site: str
    request: Request
    start: float


@dataclass
class _Line:
    """One site's questions: first what has to be asked again, then what comes next."""

    questions: Iterator[Request]
    again: deque[Request] = field(default_factory=deque)
    in_flight: int = 0
    ended: bool = False

    def take(self) -> Request | None:
        if self.again:
            return self.again.popleft()
        request = next(self.questions, None)
        self.ended = request is None
        return request

    @property
    def done(self) -> bool:
        return self.ended and not self.again and not self.in_flight


class FlowerSites:
    """`Sites` over a Grid. `in_flight` messages per site at most; `ttl` seconds until Flower gives a message up.

    `stamp` gives the meta of a message, anew each time it is sent: the coordinator's signed order, or the request's own
    meta with the simulation's run folder. A site that is away or busy is asked again when it is back; a lost one counts as
    unreachable.
    """

    def __init__(self, grid: Grid, presence: Presence, in_flight: int, ttl: float, stamp: Stamp) -> None:
        self.names, self._presence = presence.names, presence
        self._grid, self._in_flight, self._ttl, self._stamp = grid, in_flight, ttl, stamp

    def arrivals(self) -> Iterator[list[str]]:
        """The sites in groups as they come, until all have come or the others are lost."""
        waiting = list(self.names)
        while waiting:
            here = [name for name in waiting if self._presence.node(name) is not None]
            waiting = [name for name in waiting if name not in here and not self._presence.lost(name)]
            if here:
                yield here
            elif waiting:
                time.sleep(LONGEST_PAUSE)

    def exchange(self, requests: Mapping[str, Iterator[Request]]) -> Iterator[Exchange]:
        """Ask every site what its iterator brings; yield the replies in the order in which they arrive.

        A site's next request goes out before its reply is yielded, so no site waits for the caller or for another site.
        """
        lines = {site: _Line(iter(each)) for site, each in requests.items()}
        record = lru_cache(SHARED_BLOBS)(blob_record)
        sent: dict[str, _Sent] = {}
        pause = SHORTEST_PAUSE
        while any(not line.done for line in lines.values()):
            for site, line in lines.items():
                yield from self._fill(site, line, sent, record)
            arrived = False
            for message_id in list(sent):
                for message in self._grid.pull_messages([message_id]):
                    arrived, done = True, sent.pop(message_id)
                    yield from self._arrived(done, read_message(message), lines[done.site], sent, record)
            pause = SHORTEST_PAUSE if arrived else min(LONGEST_PAUSE, 1.3 * pause)
            if not arrived:
                time.sleep(pause)

    def _arrived(
        self, done: _Sent, reply: Reply, line: _Line, sent: dict[str, _Sent], record: Record
    ) -> Iterator[Exchange]:
        line.in_flight -= 1
        again = self._ask_again(done.site, reply)
        if again:
            line.again.append(done.request)
        more = list(self._fill(done.site, line, sent, record))
        if not again:
            yield Exchange(done.site, done.request, reply, time.monotonic() - done.start)
        yield from more

    def _ask_again(self, site: str, reply: Reply) -> bool:
        """Whether the site could not answer just now and is worth waiting for."""
        reason = "" if reply.ok else str(reply.meta.get("reason"))
        if reason not in ("unreachable", *PAUSES):
            self._presence.answered(site)
            return False
        self._presence.failed(site, reason)
        return not self._presence.lost(site)

    def _fill(self, site: str, line: _Line, sent: dict[str, _Sent], record: Record) -> Iterator[Exchange]:
        """Send the site's next requests. What cannot be sent to a lost site is answered at once."""
        while line.in_flight < self._in_flight and not line.done:
            node = self._presence.node(site)
            if node is None and not self._presence.lost(site):
                return
            if (request := line.take()) is None:
                return
            if node is None:
                yield Exchange(site, request, unreachable(f"no answer for {self._presence.patience:.0f} s"), 0.0)
            elif message_id := self._push(site, node, request, record(request.blob)):
                sent[message_id] = _Sent(site, request, time.monotonic())
                line.in_flight += 1
            else:
                self._presence.failed(site, "unreachable")
                line.again.appendleft(request)

    def _push(self, site: str, node: int, request: Request, blob: ArrayRecord) -> str:
        """The message's id; empty when Flower does not know the node any more."""
        text = request_text(Request(request.kind, dict(self._stamp(site, request))))
        content = RecordDict({"meta": ConfigRecord({"json": text}), "blob": blob})
        ids = list(self._grid.push_messages([Message(content, node, f"query.{request.kind}", ttl=self._ttl)]))
        return ids[0] if ids and ids[0] else ""


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
    known = {str(node): node for node in nodes}
    anyone = FlowerSites(grid, Presence(list(known), lambda: known, 0.0), 1, ttl, with_meta(extra))
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
