"""Ctrl-C in `nakt run` ends the run's process at once. Flower's own stop is noticed by the next message to a site only: never
while the student learns, and a run that is resumed meanwhile would be refused."""

import os
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

from nakt_fed.status.files import is_held

FILE = ".stop"
LOOK_SECONDS, END_SECONDS = 0.2, 10.0


def obey_stop(run: Path) -> None:
    """From now on this process ends when it is told to; its guards end what it has started."""
    (run / FILE).unlink(missing_ok=True)
    Thread(target=_wait_for_stop, args=(run / FILE,), daemon=True).start()


def _wait_for_stop(path: Path) -> None:
    while not path.exists():
        time.sleep(LOOK_SECONDS)
    path.unlink(missing_ok=True)
    os._exit(1)  # like a kill, which every part of a run survives


def stop_process(run: Path) -> None:
    """Tell the process that works in the run folder to end, and wait for that."""
    with suppress(FileNotFoundError):
        (run / FILE).touch()
    end = time.monotonic() + END_SECONDS
    while is_held(run) and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
