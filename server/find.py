"""Simulated sites: whoever answers with a site's name is that site."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from flwr.serverapp import Grid

from nakt_fed.errors import RunError
from nakt_fed.exchange import Reply, Request

from .grid import LONGEST_PAUSE, FlowerSites, with_meta
from .presence import Presence


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
