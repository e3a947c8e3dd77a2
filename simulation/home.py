"""What one run of Flower's simulation gets for itself: a folder, a port, a bundle of our apps, and an environment.

Every setting here answers a trap that was measured with Flower 1.41 and Ray 2.55.
"""

import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nakt_fed
from nakt_fed.flower_environment import direct, programs, quiet
from server.flower import threads

LONGEST_TEMP = 30  # characters; Ray's sockets lie 70 deeper and a socket's path has at most 107
PRIVATE = ("FLWR_", "RAY_ADDRESS", "RAY_TMPDIR")  # of the user's environment, nothing of this reaches our Flower


def make_home() -> Path:
    """A new folder under a short path; Flower's home, Ray's sessions and the neutral working directory lie in it.

    `lib` holds nothing but a link to our own `nakt_fed`: first on the workers' path, it is the one that they import.
    """
    base = tempfile.gettempdir()
    home = Path(tempfile.mkdtemp(prefix="nakt-", dir=base if len(base) <= LONGEST_TEMP else "/tmp"))
    (home / "work").mkdir()
    (home / "lib").mkdir()
    (home / "lib" / "nakt_fed").symlink_to(Path(nakt_fed.__file__).resolve().parent)
    return home


def environment(home: Path, count: int, user: Mapping[str, str]) -> dict[str, str]:
    """The environment of every process of the run, from the user's.

    The user's RAY_ADDRESS is meant for the student's training only: it goes on as NAKT_RAY_ADDRESS.
    """
    kept = {key: value for key, value in user.items() if not key.startswith(PRIVATE)}
    cluster = {"NAKT_RAY_ADDRESS": user["RAY_ADDRESS"]} if user.get("RAY_ADDRESS") else {}
    ours = quiet(home) | _ray(home, user) | threads(count) | direct(user) | _paths(home, user)
    return kept | cluster | ours


def _ray(home: Path, user: Mapping[str, str]) -> dict[str, str]:
    """Ray's ports take orders from whoever reaches them, so ours obey only who knows a secret.

    Not when the user has a cluster: the student's training, which inherits this, must show the user's token there.
    """
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return {
        **({} if user.get("RAY_ADDRESS") else secret),
        "RAY_TMPDIR": str(home),  # also hides a cluster of `ray start`, which ray.init would join
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # 15 otherwise: beside anything else that works the sites would stand still
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # its one effect: everything listens on 127.0.0.1
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # an actor without a GPU of its own still sees the machine's
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    }


def _paths(home: Path, user: Mapping[str, str]) -> dict[str, str]:
    return programs(user) | {"PYTHONPATH": os.pathsep.join(filter(None, [str(home / "lib"), user.get("PYTHONPATH")]))}
