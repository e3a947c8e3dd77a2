"""The sites behind Flower's Grid: `nakt_fed.exchange.Sites` in terms of messages.

Flower starts a process per message, which takes about two seconds in a deployment: a message carries several requests, and
others are on their way meanwhile. Pictures go out and masks come back in the same messages.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from nakt_fed.exchange import Exchange, Reply, Request

from .line import Line
from .looks import Looks
from .messages import query, read_message, unreachable
from .presence import PAUSES, Presence

Stamp = Callable[[str, Request], Mapping[str, Any]]

SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.2  # seconds between two looks for replies


def _to_ask(requests: list[Request], answered: list[tuple[Request, Reply]]) -> list[Request]:
    """Those without an answer. What is behind another one comes with that; it is asked alone once that was answered well."""
    well = {id(each): reply.ok for each, reply in answered}
    first = {id(each.then): id(each) for each in requests if each.then}
    alone = [each for each in requests if id(each) not in first or well.get(first[id(each)])]
    return [each for each in alone if id(each) not in well]


def _progress(reply: Reply) -> str:
    """How far a training at a site is, in its own words: short and printable, whatever it says."""
    told = str(reply.meta.get("message", "")) if reply.meta.get("reason") == "training" else ""
    return "".join(letter for letter in told[:100] if letter.isprintable())


def with_meta(extra: Mapping[str, Any]) -> Stamp:
    """The request's own meta, and this."""
    return lambda site, request: {**extra, **request.meta}


@dataclass(frozen=True)
class _Sent:
    site: str
    requests: list[Request]
    start: float


class FlowerSites:
    """`Sites` over a Grid. At most `in_flight` messages per site, each with up to `share` requests; `ttl` seconds until
    Flower gives a message up.

    `stamp` gives the meta of a request, anew each time it is sent: the coordinator's signed order, or the request's own
    meta with the simulation's run folder. A site that is away or busy is asked again when it is back; a lost one counts as
    unreachable. `keys`: the sites' public keys; what a site has not signed is no answer of its.
    """

    def __init__(
        self,
        grid: Grid,
        presence: Presence,
        in_flight: int,
        ttl: float,
        stamp: Stamp,
        share: int = 1,
        keys: Mapping[str, bytes] | None = None,
    ) -> None:
        self.names, self._presence, self._keys = presence.names, presence, keys or {}
        self._grid, self._in_flight, self._ttl, self._stamp, self._share = grid, in_flight, ttl, stamp, share

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

    def exchange(self, requests: Mapping[str, Iterator[Request | None]]) -> Iterator[Exchange]:
        """Ask every site what its iterator brings; yield the replies in the order in which they arrive.

        A site's next message goes out before a reply is yielded, so no site waits for the caller or for another site.
        """
        lines = {site: Line(iter(each)) for site, each in requests.items()}
        sent: dict[str, _Sent] = {}
        pause = SHORTEST_PAUSE
        with Looks(self._grid, len(lines)) as looks:
            while any(not line.done for line in lines.values()):
                before = len(sent)
                for site, line in lines.items():
                    yield from self._fill(site, line, sent)
                filled = len(sent) > before
                arrived = looks.arrived({key: each.site for key, each in sent.items()})
                for message_id, message in arrived:
                    done = sent.pop(message_id)
                    yield from self._arrived(done, self._read(done, message), lines[done.site], sent)
                pause = SHORTEST_PAUSE if arrived or filled else min(LONGEST_PAUSE, 1.3 * pause)
                if not (arrived or filled):
                    time.sleep(pause)

    def _read(self, done: _Sent, message: Message) -> list[Reply]:
        return read_message(message, self._keys.get(done.site))

    def _arrived(self, done: _Sent, replies: list[Reply], line: Line, sent: dict[str, _Sent]) -> Iterator[Exchange]:
        line.in_flight -= 1
        seconds = time.monotonic() - done.start
        answered, again = self._sorted(done, replies[: len(done.requests)])
        line.back(again)
        more = list(self._fill(done.site, line, sent))
        for request, reply in answered:
            yield Exchange(done.site, request, reply, seconds)
        yield from more

    def _sorted(self, done: _Sent, replies: list[Reply]) -> tuple[list[tuple[Request, Reply]], list[Request]]:
        """The requests with their replies, and those to ask again: what the site did not get to, or could not answer just
        now. A message that failed counts once; when the site is lost by it, that is the reply to all its requests."""
        reasons = ["" if reply.ok else str(reply.meta.get("reason")) for reply in replies]
        waits = [reason in ("unreachable", *PAUSES) for reason in reasons]
        if not all(waits):
            self._presence.answered(done.site)
        if any(waits):
            first = waits.index(True)
            self._presence.failed(done.site, reasons[first], _progress(replies[first]))
            if self._presence.lost(done.site):
                return [(each, replies[min(place, len(replies) - 1)]) for place, each in enumerate(done.requests)], []
        answered = [(each, reply) for each, reply, wait in zip(done.requests, replies, waits, strict=False) if not wait]
        return answered, _to_ask(done.requests, answered)

    def _fill(self, site: str, line: Line, sent: dict[str, _Sent]) -> Iterator[Exchange]:
        """Send the site's next message: one, because to make and send one takes seconds in which others wait. What cannot be sent
        to a lost site is answered at once."""
        if line.in_flight < self._in_flight and line.waits():
            node = self._presence.node(site)
            if node is None and not self._presence.lost(site):
                return
            requests = line.pack(self._share)
            if node is None:
                for request in requests:
                    reply = unreachable(f"no answer for {self._presence.patience:.0f} s")
                    yield Exchange(site, request, reply, 0.0)
            elif message_id := self._push(site, node, requests):
                sent[message_id] = _Sent(site, requests, time.monotonic())
                line.in_flight += 1
            else:
                self._presence.failed(site, "unreachable")
                line.back(_to_ask(requests, []))

    def _push(self, site: str, node: int, requests: list[Request]) -> str:
        """The message's id; empty when Flower does not know the node any more."""
        stamped = [Request(each.kind, dict(self._stamp(site, each)), each.blob) for each in requests]
        ids = list(self._grid.push_messages([query(node, stamped, self._ttl)]))
        return ids[0] if ids and ids[0] else ""
