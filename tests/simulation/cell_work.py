"""What the cells of the tests do: every attempt leaves a line, so that a test can tell how often it was made."""

import os
import time
from typing import Any

from nakt_fed.errors import DataError
from simulation.cells import Task


def work(task: Task) -> dict[str, Any]:
    """`add` to what is needed; fail where told to; wait until this worker is killed, the first time or always."""
    with (task.place / "attempts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    attempts = len((task.place / "attempts").read_text().splitlines())
    if "mend" in task.where and not os.path.exists(task.where["mend"]):  # noqa: PTH110
        raise DataError("the picture is broken; mend it")
    if task.what.get("fault"):
        raise ZeroDivisionError("ours")
    if task.what.get("wait") == "always" or (task.what.get("wait") and attempts == 1):
        time.sleep(120)
    return {"sum": task.what["add"] + sum(need.result["sum"] for need in task.needs.values()), "attempts": attempts}
