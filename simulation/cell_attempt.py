"""One attempt at a cell, in whatever process: the work is done and its result kept, or the reason of its failure comes back."""

import json
import socket
import time
import traceback
from pathlib import Path
from typing import Any

from nakt_fed.errors import NaktError, RunError
from nakt_fed.whole_file import write_whole

from .cells import Task, Work, made, result_path


def attempt(work: Work, cell: dict[str, Any], order: dict[str, Any], ticket: str) -> dict[str, Any]:
    """Do the work and keep its result. Returns {"seconds"}, or {"error", "traceback"}."""
    folder = Path(order["folder"])
    began = time.perf_counter()
    try:
        _see(folder, ticket)
        place = folder / "cells" / cell["key"]
        place.mkdir(exist_ok=True)
        needs = {role: made(folder, key) for role, key in cell["needs"].items()}
        result = work(Task(cell["name"], cell["what"], cell["where"], place, needs, order["threads"]))
        seconds = round(time.perf_counter() - began, 3)
        keep({**cell, "seconds": seconds, "result": result}, result_path(folder, cell["key"]))
        return {"seconds": seconds}
    except NaktError as error:
        return {"error": str(error), "traceback": traceback.format_exc()}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def _see(folder: Path, ticket: str) -> None:
    path = folder / "cells" / "ticket"
    if not path.exists() or path.read_text() != ticket:
        raise RunError(
            f"the Ray worker on {socket.gethostname()} does not see {folder}; use a folder that all nodes share"
        )


def keep(value: dict[str, Any], path: Path) -> None:
    """JSON, whole or not at all."""
    write_whole(path, json.dumps(value, allow_nan=False, ensure_ascii=False))
