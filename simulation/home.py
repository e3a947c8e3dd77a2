"""What one run of Flower's simulation gets for itself: a folder, a port, a bundle of our apps, and an environment.

Every setting here answers a trap that was measured with Flower 1.41 and Ray 2.55.
"""

import os
import secrets
import shutil
import socket
import sysconfig
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

import nakt_fed
from nakt_fed.errors import RunError

LONGEST_TEMP = 30  # characters; Ray's sockets lie 70 deeper and a socket's path has at most 107
PRIVATE = ("FLWR_", "RAY_ADDRESS", "RAY_TMPDIR")  # of the user's environment, nothing of this reaches our Flower
LOCAL = "127.0.0.1,localhost"


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


def free_port() -> int:
    """A TCP port of this machine that nobody uses. Raises RunError when there is none."""
    try:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            return int(sock.getsockname()[1])
    except OSError as error:
        raise RunError(f"Flower needs a free port on 127.0.0.1 and got none ({error}); end other programs") from None


def connect(home: Path, port: int) -> None:
    """Tell `flwr` where our SuperLink is; the connection is called `nakt`."""
    connection = {"address": f"127.0.0.1:{port}", "insecure": True}
    _write(home / "config.toml", {"superlink": {"default": "nakt", "nakt": connection}})


def bundle(home: Path, app_folder: Path) -> Path:
    """Copy what Flower ships to its workers: the two apps and their settings, not the library.

    Flower bundles Python files only: a bundled copy of the library would lack its other files (demo pictures, report
    templates) and hide the complete one.
    """
    target = home / "app"
    for name in ("server", "sites"):
        shutil.copytree(app_folder / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    settings = tomllib.loads((app_folder / "pyproject.toml").read_text(encoding="utf-8"))
    settings["tool"]["flwr"]["app"].pop("fab-include", None)
    project = {key: settings["project"][key] for key in ("name", "version", "description", "license")}
    _write(target / "pyproject.toml", {"project": project, "tool": {"flwr": settings["tool"]["flwr"]}})
    return target


def environment(home: Path, threads: int, user: Mapping[str, str]) -> dict[str, str]:
    """The environment of every process of the run, from the user's.

    The user's RAY_ADDRESS is meant for the student's training only: it goes on as NAKT_RAY_ADDRESS.
    """
    kept = {key: value for key, value in user.items() if not key.startswith(PRIVATE)}
    cluster = {"NAKT_RAY_ADDRESS": user["RAY_ADDRESS"]} if user.get("RAY_ADDRESS") else {}
    ours = _flower(home) | _ray(home, user) | _threads(threads) | _network(user) | _paths(home, user)
    return kept | cluster | ours


def _flower(home: Path) -> dict[str, str]:
    return {
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # else uv builds an environment per run
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",  # seconds instead of 1 until the run starts
    }


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


def _threads(count: int) -> dict[str, str]:
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(count))


def _network(user: Mapping[str, str]) -> dict[str, str]:
    """Flower's HTTP between its own processes must not take a hospital's proxy."""
    return {name: ",".join(filter(None, [user.get(name), LOCAL])) for name in ("NO_PROXY", "no_proxy")}


def _paths(home: Path, user: Mapping[str, str]) -> dict[str, str]:
    """Flower starts its parts by name; they lie beside this Python even when its environment is not activated."""
    return {
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), user.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(home / "lib"), user.get("PYTHONPATH")])),
    }


def run_settings(home: Path, settings: Mapping[str, Any]) -> Path:
    """Flower's --run-config as a file: paths with spaces or quotes survive."""
    path = home / "run-config.toml"
    _write(path, settings)
    return path


def _write(path: Path, table: Mapping[str, Any]) -> None:
    path.write_text(tomli_w.dumps(dict(table)), encoding="utf-8")
