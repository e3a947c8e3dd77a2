"""Looking for replies without waiting for the slowest site."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from inspect import signature
from typing import Self

from flwr.app import Message
from flwr.serverapp import Grid
from flwr.superlink.grid import http_grid

TOGETHER = 0.2  # seconds that a look for one site's reply may take before the others are served without it


def look_often() -> None:
    """In a deployment a reply is there before it is uploaded; Flower 1.41 then looks for its parts after 1, 2, 4 and at last
    each 10 s. From now on it looks often."""
    if "initial_backoff" in signature(http_grid.pull_objects).parameters:
        http_grid.pull_objects = partial(http_grid.pull_objects, initial_backoff=0.2, backoff_cap=1.0)


class Looks:
    """Looks for replies, for each site in a thread of its own: Flower waits there while a reply is still being uploaded."""

    def __init__(self, grid: Grid, sites: int) -> None:
        self.grid, self.pool = grid, ThreadPoolExecutor(max(1, sites))
        self.going: dict[str, Future[list[tuple[str, Message]]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)

    def arrived(self, sent: Mapping[str, str]) -> list[tuple[str, Message]]:
        """The replies that are here now, with the ids of what they reply to: at most one of each site.

        Args:
            sent: the site of each message that has no reply yet, by the message's id.
        """
        ids: dict[str, list[str]] = {}
        for message_id, site in sent.items():
            ids.setdefault(site, []).append(message_id)
        for site in ids.keys() - self.going.keys():
            self.going[site] = self.pool.submit(self._look, ids[site])
        wait(self.going.values(), TOGETHER)
        over = [site for site in ids if site in self.going and self.going[site].done()]
        return [reply for site in over for reply in self.going.pop(site).result()]

    def _look(self, ids: Sequence[str]) -> list[tuple[str, Message]]:
        for message_id in ids:
            if found := list(self.grid.pull_messages([message_id])):
                return [(message_id, found[0])]
        return []
