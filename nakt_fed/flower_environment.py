"""What Flower's programs get when we start them: settings, the way to each other, a port. Flower itself is not imported."""

import os
import socket
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from nakt_fed.errors import RunError

LOCAL = "127.0.0.1,localhost"


def quiet(home: Path) -> dict[str, str]:
    """Flower's environment: a home of its own, nothing downloaded, nobody called."""
    return {
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # else uv builds an environment per run
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",  # seconds instead of 1 until the run starts
    }


def programs(user: Mapping[str, str]) -> dict[str, str]:
    """Flower starts its parts by name; they lie beside this Python even when its environment is not activated."""
    return {"PATH": os.pathsep.join([sysconfig.get_path("scripts"), user.get("PATH", os.defpath)])}


def direct(user: Mapping[str, str]) -> dict[str, str]:
    """Flower's HTTP between its own processes must not take a hospital's proxy."""
    return {name: ",".join(filter(None, [user.get(name), LOCAL])) for name in ("NO_PROXY", "no_proxy")}


def free_port() -> int:
    """A TCP port of this machine that nobody uses. Raises RunError when there is none."""
    try:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            return int(sock.getsockname()[1])
    except OSError as error:
        raise RunError(f"Flower needs a free port on 127.0.0.1 and got none ({error}); end other programs") from None
