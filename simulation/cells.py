"""Many independent pieces of work ("cells") on Ray, each made once: what is finished is found again by its content.

    teacher = Cell("teacher", {"make": "teacher", "network": "unet", "seed": 1})
    student = Cell("student of thyroid", {"make": "student", "set": "thyroid"}, needs={"teacher": teacher})
    made = run_cells([student, ...], work, folder)      # `work(task)` is called on a Ray worker
    made[student.key].result["dice"]

`folder/cells/<key>.json` is a finished cell's result, written whole or not at all; `<key>.failed.json` why it failed; the
folder `<key>/` is the cell's own, where unfinished work goes on. With RAY_ADDRESS set they are made on that cluster,
whose nodes have to see `folder`.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nakt_fed.errors import RunError
from nakt_fed.events import end_of, follow
from nakt_fed.locks import only_one
from nakt_fed.processes import guarded
from server.child import failure
from server.private_ray import environment, make_scratch

from .cells_words import Teller, failures

WHAT = "the work on the cells"


@dataclass(frozen=True)
class Cell:
    """One piece of work. The same description on the same needs is the same cell, whatever its name and wherever its files lie.

    Attributes:
        name: for people.
        what: plain JSON, all that decides the result.
        needs: cells that are made before, by the role they play.
        where: plain JSON that does not decide the result, such as folders.
    """

    name: str
    what: Mapping[str, Any]
    needs: Mapping[str, "Cell"] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """Under which its result is kept."""
        needs = {role: cell.key for role, cell in self.needs.items()}
        text = json.dumps([self.what, needs], sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Made:
    """A finished cell: its result (plain JSON), its folder with what else it left, the seconds that it took."""

    result: dict[str, Any]
    place: Path
    seconds: float


@dataclass(frozen=True)
class Task:
    """What the work gets to see of its cell. What it leaves half done in `place` is still there when it is called again."""

    name: str
    what: dict[str, Any]
    where: dict[str, Any]
    place: Path
    needs: dict[str, Made]
    threads: int


Work = Callable[[Task], dict[str, Any]]
"""A function of a module. Returns plain JSON; a NaktError is the user's to mend, anything else a fault of ours."""


def run_cells(
    cells: Iterable[Cell],
    work: Work,
    folder: Path,
    *,
    threads: int = 1,
    gpus: float = 0,
    tell: Callable[[str], None] = print,
) -> dict[str, Made]:
    """Make every cell that is not made yet, and what it needs, as many at once as there are CPUs for.

    After a kill or a failure the same call makes only what is missing; `cli.guarded.guarded_work` says so on Ctrl-C.

    Args:
        threads: CPUs of one cell.
        gpus: GPUs of one cell.
        tell: gets a line of progress now and then.

    Returns:
        the finished cells by their keys, with those that were needed.

    Raises:
        RunError: a cell failed (the others were made all the same), Ray does not start, or the folder is in use.
    """
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    wanted = with_needs(cells)
    with only_one(folder):
        missing = [cell for cell in wanted.values() if not result_path(folder, cell.key).exists()]
        if missing:
            tell(f"{len(wanted) - len(missing)} of {len(wanted)} cells are made already, {len(missing)} to go")
            _make(missing, work, folder, threads, gpus, tell)
        told = failures(wanted.values(), folder)
    if told:
        raise RunError(told)
    return {key: made(folder, key) for key in wanted}


def with_needs(cells: Iterable[Cell]) -> dict[str, Cell]:
    """The cells and all that they need, by key, what is needed first."""
    found: dict[str, Cell] = {}
    for cell in cells:
        found |= {key: need for key, need in with_needs(cell.needs.values()).items() if key not in found}
        found.setdefault(cell.key, cell)
    return found


def result_path(folder: Path, key: str) -> Path:
    """Where a cell's result is kept."""
    return folder / "cells" / f"{key}.json"


def made(folder: Path, key: str) -> Made:
    """A finished cell. Raises FileNotFoundError: it is not finished."""
    kept = json.loads(result_path(folder, key).read_text(encoding="utf-8"))
    return Made(kept["result"], folder / "cells" / key, kept["seconds"])


def _make(cells: list[Cell], work: Work, folder: Path, threads: int, gpus: float, tell: Callable[[str], None]) -> None:
    """A child process connects to Ray, as for the student's training, and ends with all that it started."""
    scratch = make_scratch()
    order = {
        "work": [work.__module__, work.__qualname__],
        "folder": str(folder.resolve()),
        "threads": threads,
        "gpus": gpus,
        "cells": [_plain(cell) for cell in cells],
    }
    (scratch / "order.json").write_text(json.dumps(order), encoding="utf-8")
    log, events = folder / "cells" / "ray.log", folder / "cells" / "events.jsonl"
    command = [sys.executable, "-m", "simulation.cells_ray", str(scratch / "order.json")]
    begin, teller = end_of(events), Teller(len(cells), tell)
    with (
        log.open("wb") as sink,
        guarded(command, env=environment(threads, scratch), sink=sink, remove=scratch) as child,
    ):
        for event in follow(events, lambda: child.poll() is not None, begin):
            teller(event)
    if code := child.wait():
        raise RunError(failure(code, log, WHAT, "what is made is kept, the same command goes on"))
    log.unlink()


def _plain(cell: Cell) -> dict[str, Any]:
    needs = {role: need.key for role, need in cell.needs.items()}
    return {"key": cell.key, "name": cell.name, "what": cell.what, "where": cell.where, "needs": needs}
