"""Where the Flower apps lie (beside the package in a checkout, inside it in a wheel), and how a command becomes one of them."""

import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NoReturn

from nakt_fed.errors import RunError

STOPS = (signal.SIGINT, signal.SIGTERM)


def app_folder() -> Path:
    """The folder with pyproject.toml ([tool.flwr.app]), `server`, `sites` and `simulation`."""
    package = Path(__file__).resolve().parent
    return package.parent if (package.parent / "server" / "app.py").is_file() else package / "_app"


def become(module: str, *arguments: str) -> NoReturn:
    """Replace this process by `python -m module`: Ctrl-C, exit code and terminal are then its own.

    Raises:
        RunError: the applications are not where they belong.
    """
    command, environment = _started(module)
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # a Ctrl-C while it loads waits until it can say how to resume
    os.execve(sys.executable, [*command, *arguments], environment)


@cache
def app_sha256() -> str:
    """Of the Flower bundle that the coordinator's side of this nakt-fed sends to sites. Raises RunError: none can be made."""
    command, environment = _started("server.fab")
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"the app's SHA-256 could not be found: {done.stderr.strip().rpartition(chr(10))[2]}")
    return done.stdout.strip()


def _started(module: str) -> tuple[list[str], dict[str, str]]:
    apps = app_folder()
    if not (apps / module.partition(".")[0]).is_dir():
        raise RunError(f"the applications are not in {apps}; install nakt-fed again")
    paths = [str(apps), *filter(None, [os.environ.get("PYTHONPATH")])]
    return [sys.executable, "-P", "-m", module], {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
