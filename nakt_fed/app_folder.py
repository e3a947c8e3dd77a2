"""Where the Flower apps lie (beside the package in a checkout, inside it in a wheel), and how a command becomes one of them."""

import os
import signal
import sys
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
    apps = app_folder()
    if not (apps / module.partition(".")[0]).is_dir():
        raise RunError(f"the applications are not in {apps}; install nakt-fed again")
    paths = [str(apps), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # a Ctrl-C while it loads waits until it can say how to resume
    os.execve(sys.executable, [sys.executable, "-P", "-m", module, *arguments], environment)
