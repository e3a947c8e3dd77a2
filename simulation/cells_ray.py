"""`python -m simulation.cells_ray ORDER`: the child of `cells.run_cells`; it gives the cells to Ray and notes what becomes of them."""

import importlib
import json
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError

from nakt_fed.cores import cores
from nakt_fed.errors import RunError
from nakt_fed.events import EventLog
from server.child import told
from server.private_ray import connect
from simulation.cell_attempt import attempt, keep
from simulation.cells import WHAT, result_path
from simulation.cells_words import failed_path

MAX_DEATHS = 2
"""How often a cell is begun again whose worker died: then the cell itself may be what kills it (memory)."""


def main(path: Path) -> int:
    """Exit code 0 also when cells failed: that is noted with each."""
    order = json.loads(path.read_text(encoding="utf-8"))
    return told(lambda: _connected(order, path.parent), WHAT)


def _connected(order: dict[str, Any], scratch: Path) -> None:
    cpus = max(order["threads"], cores())
    connect(cpus, scratch)
    try:
        _refuse_impossible(order)
        carry_out(order)
    finally:
        ray.shutdown()


def _refuse_impossible(order: dict[str, Any]) -> None:
    """Ray waits for ever for what no node has."""
    for what, need in (("CPU", order["threads"]), ("GPU", order["gpus"])):
        there = max(node["Resources"].get(what, 0) for node in ray.nodes() if node["Alive"])
        if need > there:
            raise RunError(f"a cell needs {need:g} {what} on one machine, the largest has {there:g}; lower it")


def carry_out(order: dict[str, Any]) -> None:
    """Give every cell to Ray as soon as what it needs is made; a failed one holds up only those that need it."""
    folder, waiting = Path(order["folder"]), {cell["key"]: cell for cell in order["cells"]}
    events = EventLog(folder / "cells" / "events.jsonl")
    ticket = secrets.token_hex(8)
    (folder / "cells" / "ticket").write_text(ticket)
    limits = {"num_cpus": order["threads"], "num_gpus": order["gpus"], "max_retries": MAX_DEATHS}
    make = ray.remote(**limits)(portable(order))
    running: dict[Any, dict[str, Any]] = {}
    while True:
        for cell in [cell for cell in waiting.values() if _ready(cell, folder)]:
            failed_path(folder, cell["key"]).unlink(missing_ok=True)
            running[make.remote(cell, order, ticket)] = waiting.pop(cell["key"])
        if not running:
            return
        [done], _ = ray.wait(list(running), num_returns=1)
        _settle(done, running.pop(done), folder, events)


def _ready(cell: dict[str, Any], folder: Path) -> bool:
    return all(result_path(folder, key).exists() for key in cell["needs"].values())


def portable(order: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """`attempt` at the order's work, for nodes of a cluster that have nakt_fed, but neither this application nor the work's module."""
    work = importlib.import_module(order["work"][0])
    for package in {"simulation", work.__name__.partition(".")[0]} - {"nakt_fed"}:
        ray.cloudpickle.register_pickle_by_value(sys.modules[package])
    function = getattr(work, order["work"][1])

    def make(cell: dict[str, Any], order: dict[str, Any], ticket: str) -> dict[str, Any]:
        return attempt(function, cell, order, ticket)

    return make


def _settle(done: Any, cell: dict[str, Any], folder: Path, events: EventLog) -> None:
    try:
        outcome = ray.get(done)
    except RayError as error:
        outcome = {"error": f"its worker died {MAX_DEATHS + 1} times ({_why(error)})", "traceback": str(error)}
    if "error" in outcome:
        keep({**cell, **outcome}, failed_path(folder, cell["key"]))
    outcome.pop("traceback", None)
    events.emit("cell", name=cell["name"], **outcome)


def _why(error: RayError) -> str:
    """In a line. Of an end for want of memory Ray tells a page."""
    if isinstance(error, OutOfMemoryError):
        return "its machine ran out of memory; free some, or give a cell more threads, so that fewer work at once"
    return str(error).strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
