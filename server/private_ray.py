"""A Ray of our own for one child process, or the user's cluster: the environment, the start, and nothing left behind."""

import logging
import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Any

from nakt_fed.errors import RunError

from .flower import threads as threads_of

ADDRESSES = ("NAKT_RAY_ADDRESS", "RAY_ADDRESS")
LOCAL_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0": everything listens on 127.0.0.1; it has no other effect
START_ATTEMPTS = 3
LONGEST_TEMP = 24  # characters; Ray's sockets lie below, and a socket's path has at most 107
# glibc gives the memory of every large tensor back to the system and takes it anew, page by page: 8 % of a training step
KEEP_MEMORY = dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(2**30))
OBJECT_STORE = 256 * 2**20  # bytes; the only large object is the checkpoint that is fine-tuned


def make_scratch() -> Path:
    """A new folder with a short path for the child's temporary files; the guard of the child removes it."""
    return Path(tempfile.mkdtemp(prefix="nakt-", dir=_short_folder()))


def _short_folder() -> str:
    """Under Flower its private home, which Flower's guard removes even when ours is killed; else where temporary files go."""
    folders = (os.environ.get("RAY_TMPDIR"), tempfile.gettempdir())
    return next((folder for folder in folders if folder and len(folder) <= LONGEST_TEMP), "/tmp")


def environment(threads: int, scratch: Path) -> dict[str, str]:
    """The environment of the child and, through it, of its own Ray and of Ray's workers."""
    address = next((os.environ[name] for name in ADDRESSES if os.environ.get(name)), "")
    kept = {key: value for key, value in os.environ.items() if key not in (*ADDRESSES, "RAY_TMPDIR", LOCAL_ONLY)}
    paths = [str(Path(__file__).parent.parent), *filter(None, sys.path)]
    return {
        **kept,
        **KEEP_MEMORY,
        **(_private() if not address else {"NAKT_RAY_ADDRESS": address}),
        **threads_of(threads),
        "TMPDIR": str(scratch),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the behaviour to come; else every start warns
    }


def _private() -> dict[str, str]:
    """Ray's ports take orders from whoever reaches them: listen on 127.0.0.1 alone, and obey who knows a secret."""
    return {
        LOCAL_ONLY: "0",
        "RAY_worker_niceness": "0",  # 15 otherwise: beside anything else that works the training would stand still
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        **({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}),
    }


def connect(num_cpus: int, scratch: Path) -> bool:
    """Connect the child to the user's cluster, or to a Ray that is started for it alone.

    Args:
        num_cpus: of a Ray of its own.

    Returns:
        whether it is a Ray of its own.

    Raises:
        RunError: the address is Ray Client's, or Ray does not start.
    """
    import ray

    address = os.environ.get("NAKT_RAY_ADDRESS")
    if address and "://" in address:
        raise RunError(
            f"RAY_ADDRESS is {address}: the coordinator has to run on a node of the cluster; give host:port of its head"
        )
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        ray.init(address=address, **options)
    else:
        _start_ray(num_cpus=num_cpus, _temp_dir=str(scratch), **options)
    return not address


def _start_ray(**options: Any) -> None:
    """A Ray on this machine. It gives itself 30 s to start, too little now and then for a machine that is very busy."""
    import ray

    for attempt in range(START_ATTEMPTS):
        try:
            ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE, **options)
            return
        except Exception as error:  # Ray raises no class of its own here
            ray.shutdown()
            if attempt == START_ATTEMPTS - 1:
                raise RunError(
                    f"Ray did not start on this machine: {error}; close other programs and --resume"
                ) from error
