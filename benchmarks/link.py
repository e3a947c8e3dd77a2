"""How busy the link of a site is during the mask round: 20 Mbit/s in each direction, 200 ms there and back, TLS.

The link is a TCP proxy between SuperNode and SuperLink: bytes leave it at the link's rate and arrive DELAY later, a new
connection waits for one round trip. It does not lose packets, and has no slow start.

Busy: seconds in which the link carried bytes at its rate ÷ seconds, from the answered offer. In the first round the sites
have none of the pictures: these go out, until 99 of 100 bytes have crossed; masks come back meanwhile, until the last are
there, where the time counts in which either direction carried bytes. In the second round, another run, the sites have
the pictures and no answer, so only masks cross, until the last are there. Start-up (processes, teacher, offer) is outside.
"""

import argparse
import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from nakt_fed.flower_environment import free_port
from nakt_fed.ledger import Ledger

from .common import Row, show
from .deployment import Between, names, seconds_of_round

GOAL = 0.8
MBIT, DELAY = 20.0, 0.1  # of each direction; seconds one way
PIECE = 16_384
QUEUE = 0.2  # seconds that bytes wait before the link at most: what a round trip holds
WINDOW = 4 * 2**20  # bytes on their way in one direction of a connection, enough for the rate times the delay


@dataclass
class Direction:
    """One direction of the link, shared by its connections: when it is free again, and what it has carried, at which time."""

    free: float = 0.0
    carried: list[tuple[float, int]] = field(default_factory=list)

    def pass_through(self, size: int) -> float:
        """When a piece that comes now will have left the link."""
        self.free = max(self.free, time.time()) + 8 * size / (MBIT * 1e6)
        self.carried.append((self.free, size))
        return self.free

    def busy(self, begin: float, end: float) -> float:
        """Share of the time that it carried bytes."""
        bits = 8 * sum(size for moment, size in self.carried if begin < moment <= end)
        return bits / (MBIT * 1e6) / (end - begin)

    def crossed(self, begin: float, end: float) -> float:
        """When 99 of 100 bytes of this time had left it; what comes behind are Flower's looks for messages."""
        carried = [(moment, size) for moment, size in self.carried if begin < moment <= end]
        left = 0.01 * sum(size for _, size in carried)
        while left >= 0:
            moment, size = carried.pop()
            left -= size
        return moment

    def spans(self, begin: float, end: float) -> list[tuple[float, float]]:
        """When it carried bytes."""
        return [(at - 8 * size / (MBIT * 1e6), at) for at, size in self.carried if begin < at <= end]


@dataclass
class Link:
    """A proxy to `target` on 127.0.0.1, in a thread of its own. `out` goes to the site, `back` comes from it."""

    target: int
    delay: float = DELAY
    out: Direction = field(default_factory=Direction)
    back: Direction = field(default_factory=Direction)
    port: int = 0

    @contextmanager
    def open(self) -> Iterator["Link"]:
        ready, over = threading.Event(), asyncio.Event()
        loop: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            loop.append(asyncio.get_running_loop())
            ready.set()
            await over.wait()
            server.close()

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        ready.wait(10)
        try:
            yield self
        finally:
            loop[0].call_soon_threadsafe(over.set)
            thread.join(10)

    async def _connect(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * self.delay)
        far, to_far = await asyncio.open_connection("127.0.0.1", self.target)
        await asyncio.gather(self._carry(near, to_far, self.back), self._carry(far, to_near, self.out))

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: Direction) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WINDOW // PIECE)

        async def deliver() -> None:
            with suppress(ConnectionError):
                while (item := await waiting.get())[1]:
                    await asyncio.sleep(max(0.0, item[0] + self.delay - time.time()))
                    sink.write(item[1])
                    await sink.drain()
            sink.close()

        task = asyncio.ensure_future(deliver())
        with suppress(ConnectionError):
            while piece := await source.read(PIECE):
                left = direction.pass_through(len(piece))
                await asyncio.sleep(max(0.0, left - time.time() - QUEUE))
                await waiting.put((left, piece))
        await waiting.put((0.0, b""))
        await task


@dataclass
class Behind(Between):
    """The sites dial the link instead of the coordinator."""

    link: Link | None = None

    def settle(self, number: int, name: str, raw: dict[str, Any]) -> None:
        super().settle(number, name, raw)
        assert self.link
        raw["coordinator"]["address"] = f"127.0.0.1:{self.link.port}"


def phases(run: Path) -> tuple[float, float]:
    """The moments of the last answers to the offer and about masks."""
    lines = Ledger(run / "ledger.jsonl").lines()
    offer, masks = (max(_moment(line) for line in lines if line["kind"] == kind) for kind in ("offer", "masks"))
    return offer, masks


def _moment(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["time"]).timestamp()


def measure(sites: int = 1, count: int = 2000, size: int = 384, delay: float = DELAY) -> list[Row]:
    """The ratio is the share of the time that the link was busy."""
    link = Link(free_port(), delay)
    with (
        tempfile.TemporaryDirectory() as folder,
        link.open(),
        _behind(link, Path(folder), sites, count, size) as between,
    ):
        between.write()
        between.start_all()
        first = between.ours(0)
        offer, masks = phases(first)
        pictures = link.out.crossed(offer, masks)
        seconds_of_round(first, sites, count)
        for name in names(sites):
            shutil.rmtree(between.root / name / "state" / "cache")
        second = between.ours(0, again=True)
        seconds_of_round(second, sites, count)
        begin, end = phases(second)
    what = f"{sites} site, {count} pictures at {size}², {2000 * delay:.0f} ms there and back"
    either = _joined([*link.out.spans(offer, masks), *link.back.spans(offer, masks)]) / (masks - offer)
    return [
        _row(f"link busy, pictures out, {what}", link.out.busy(offer, pictures), pictures - offer),
        _row("link busy in either direction, until the last masks", either, masks - offer),
        _row("link busy, masks back, the sites have the pictures", link.back.busy(begin, end), end - begin),
    ]


def _behind(link: Link, folder: Path, sites: int, count: int, size: int) -> Behind:
    return Behind(folder / "f", names(sites), size, count=count, link=link, port=link.target)


def _row(what: str, busy: float, took: float) -> Row:
    return Row(what, f"{busy * MBIT:.1f} Mbit/s for {took:.0f} s", f"{MBIT:.0f} Mbit/s", busy, GOAL)


def _joined(spans: list[tuple[float, float]]) -> float:
    """Seconds that at least one of the spans covers."""
    total, reached = 0.0, 0.0
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; three minutes."""
    parser = argparse.ArgumentParser(prog="benchmarks.link", description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="pictures")
    parser.add_argument("--sites", type=int, default=1, help="behind the same link")
    parser.add_argument("--delay", type=float, default=DELAY, help="seconds one way")
    options = parser.parse_args(arguments)
    rows = measure(sites=options.sites, count=options.count, delay=options.delay)
    show("A slow link", rows, "Against: what the link can carry. Start-up and offer excluded.")


if __name__ == "__main__":
    main()
