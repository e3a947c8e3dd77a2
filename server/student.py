"""The student's training in a process of its own, with a Ray of its own or on the user's cluster.

A second `ray.init` in the process of Flower's simulation raises, and there the sites' actors may hold every CPU; in a
deployment nobody has started Ray. A child process is the same in both, and ends with all that it started.
"""

import sys
from pathlib import Path

from nakt_fed.errors import RunError
from nakt_fed.events import EventLog
from nakt_fed.processes import guarded
from nakt_fed.student import StudentJob

from .child import failure, told
from .private_ray import connect, environment, make_scratch

WHAT = "the student's training"
HEALTH_CHECK = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}  # seconds; an epoch's report waits for the check before it


def fit_student(job: StudentJob) -> None:
    """Train the student with Ray Train; leaves student.safetensors, student.json and history.csv in `job.out`.

    With NAKT_RAY_ADDRESS (or RAY_ADDRESS) set, the training runs on that cluster. A training that was killed, whole or
    a worker of it, goes on from its last finished epoch when this is called again.

    Raises:
        RunError: the training refused or failed; the message is its own where it left one.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    scratch = make_scratch()
    (scratch / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
    EventLog(job.events).emit("note", message="Ray starts; the first epoch follows")
    log = job.out / "student.log"
    command = [sys.executable, "-m", __name__, str(scratch / "job.json")]
    env = environment(job.threads, scratch) | HEALTH_CHECK
    with log.open("wb") as sink, guarded(command, env=env, sink=sink, remove=scratch) as child:
        code = child.wait()
    if code:
        raise RunError(_failure(code, log))
    log.unlink()


def _failure(code: int, log: Path) -> str:
    return failure(code, log, WHAT, "finished epochs are kept, go on with --resume")


def main(path: Path) -> int:
    """The child: connect to Ray and train."""
    job = StudentJob.model_validate_json(path.read_bytes())
    return told(lambda: _train(job, path.parent), WHAT)


def _train(job: StudentJob, scratch: Path) -> None:
    import ray

    private = connect(job.workers, scratch)
    from .ray_train import train

    try:
        train(job, scratch, private)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
