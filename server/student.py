"""The student's training in a process of its own, with a Ray of its own or on the user's cluster.

A second `ray.init` in the process of Flower's simulation raises, and there the sites' actors may hold every CPU; in a
deployment nobody has started Ray. A child process is the same in both, and ends with all that it started.
"""

import logging
import os
import secrets
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from nakt_fed.errors import NaktError, RunError
from nakt_fed.events import EventLog
from nakt_fed.processes import guarded
from nakt_fed.student import StudentJob

ADDRESSES = ("NAKT_RAY_ADDRESS", "RAY_ADDRESS")
LOCAL_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0": everything listens on 127.0.0.1; it has no other effect
REASON = "nakt-fed: "
LAST_LINES = 15
START_ATTEMPTS = 3
LONGEST_TEMP = 24  # characters; Ray's sockets lie below, and a socket's path has at most 107
OBJECT_STORE = 256 * 2**20  # bytes; the only large object is the checkpoint that is fine-tuned


def fit_student(job: StudentJob) -> None:
    """Train the student with Ray Train; leaves student.safetensors, student.json and history.csv in `job.out`.

    With NAKT_RAY_ADDRESS (or RAY_ADDRESS) set, the training runs on that cluster. A training that was killed, whole or
    a worker of it, goes on from its last finished epoch when this is called again.

    Raises:
        RunError: the training refused or failed; the message is its own where it left one.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="nakt-", dir=_short_folder()))
    (scratch / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
    EventLog(job.events).emit("note", message="Ray starts; the first epoch follows")
    log = job.out / "student.log"
    command = [sys.executable, "-m", __name__, str(scratch / "job.json")]
    with log.open("wb") as sink, guarded(command, env=environment(job, scratch), sink=sink, remove=scratch) as child:
        code = child.wait()
    if code:
        raise RunError(_failure(code, log))
    log.unlink()


def environment(job: StudentJob, scratch: Path) -> dict[str, str]:
    """The environment of the training process and, through it, of its own Ray."""
    address = next((os.environ[name] for name in ADDRESSES if os.environ.get(name)), "")
    kept = {key: value for key, value in os.environ.items() if key not in (*ADDRESSES, "RAY_TMPDIR", LOCAL_ONLY)}
    paths = [str(Path(__file__).parent.parent), *filter(None, sys.path)]
    return {
        **kept,
        **(_private_ray() if not address else {"NAKT_RAY_ADDRESS": address}),
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(job.threads)),
        "TMPDIR": str(scratch),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the behaviour to come; else every start warns
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # seconds; an epoch's report waits for the check before it
    }


def _private_ray() -> dict[str, str]:
    """Ray's ports take orders from whoever reaches them: listen on 127.0.0.1 alone, and obey who knows a secret."""
    return {
        LOCAL_ONLY: "0",
        "RAY_worker_niceness": "0",  # 15 otherwise: beside anything else that works the training would stand still
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        **({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}),
    }


def _short_folder() -> str:
    """Under Flower its private home, which Flower's guard removes even when ours is killed; else where temporary files go."""
    folders = (os.environ.get("RAY_TMPDIR"), tempfile.gettempdir())
    return next((folder for folder in folders if folder and len(folder) <= LONGEST_TEMP), "/tmp")


def _failure(code: int, log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    _, found, reason = text.rpartition(REASON)
    if found:
        return reason.strip()
    how = f"was ended by {signal.Signals(code - 128).name}" if code > 128 else f"ended with code {code}"
    last = "\n".join(text.splitlines()[-LAST_LINES:])
    return f"the student's training {how}; finished epochs are kept, go on with --resume. The end of {log}:\n{last}"


def main(path: Path) -> int:
    """The child: connect to Ray, train, and leave the reason of a failure as the last words of the log."""
    job = StudentJob.model_validate_json(path.read_bytes())
    try:
        _train(job, path.parent)
    except NaktError as error:
        print(f"{REASON}{error}", file=sys.stderr)
        return 1
    except Exception as error:
        traceback.print_exc()
        print(f"{REASON}the student's training failed: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _train(job: StudentJob, scratch: Path) -> None:
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
        _start_ray(num_cpus=job.workers, _temp_dir=str(scratch), **options)
    from .ray_train import train

    try:
        train(job, scratch, private=not address)
    finally:
        ray.shutdown()


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


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
