"""The student on Ray Train: the workers are started, watched and, when one dies, started again."""

import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer

from nakt_fed.errors import RunError
from nakt_fed.events import EventLog
from nakt_fed.progress import epoch_reporter
from nakt_fed.student import StudentJob
from nakt_fed.training_state import EpochLog

from . import ray_worker, storage

RESULTS = ("student.safetensors", "student.json", "history.csv")
MAX_FAILURES = 3
SETTING = {"CPU": "resources.student_threads", "GPU": "student.gpus_per_worker or student.workers"}


def train(job: StudentJob, scratch: Path, private: bool) -> None:
    """Train on the Ray that this process is connected to; the results are in `job.out` afterwards.

    Args:
        scratch: folder for Ray's own notes on the run.
        private: whether this Ray was started for this training alone.

    Raises:
        RunError: a worker refused, failed or died more than MAX_FAILURES times, or needs what no node has.
    """
    place, ticket = place_of(job), secrets.token_hex(8)
    ray_worker.leave_ticket(ticket, place, scratch)
    try:
        trainer(job, place, ticket, scratch, private).fit()
    except WorkerGroupError as error:
        raise RunError(
            f"a worker of the {job.who} failed {MAX_FAILURES + 1} times, at last with: {_cause(error)}; "
            "finished epochs are kept, go on with --resume"
        ) from error
    _collect(job, place, ticket, Path(tempfile.mkdtemp(dir=scratch)))


def place_of(job: StudentJob) -> str:
    """Where the unfinished training lies: in the out folder, or under `job.storage` in the run's name."""
    if job.storage is None:
        return str(job.out)
    below = f"{job.events.parent.name}/{job.who}"
    return f"{job.storage.rstrip('/')}/{quote(below) if storage.is_url(job.storage) else below}"


def trainer(job: StudentJob, place: str, ticket: str, scratch: Path, private: bool) -> TorchTrainer:
    """Workers with `job.threads` CPUs each and, where there are any, GPUs; in a private Ray CPUs are only nominal."""
    gpus = job.gpus_per_worker or float(ray.cluster_resources().get("GPU", 0) >= job.workers)
    needs = {"CPU": 1.0 if private else float(job.threads), **({"GPU": gpus} if gpus else {})}
    refuse_impossible(needs, job.workers if private else 1)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__package__])  # a cluster has nakt_fed, but not this app
    callbacks: Any = [Progress(job.events, job.who, job.recipe.epochs)]
    return TorchTrainer(
        ray_worker.work,
        train_loop_config={
            "job": job.model_dump(mode="json"),
            "place": place,
            "ticket": ticket,
            "gpu": bool(gpus),
            "init": ray_worker.checkpoint_bytes(job.init),
        },
        # NCCL refuses two workers on one GPU
        torch_config=TorchConfig(backend="nccl" if gpus >= 1 else "gloo"),
        scaling_config=ScalingConfig(num_workers=job.workers, use_gpu=bool(gpus), resources_per_worker=needs),
        run_config=RunConfig(
            name="student",
            storage_path=str(scratch / "train"),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            callbacks=callbacks,
        ),
    )


def refuse_impossible(needs: dict[str, float], workers_per_node: int) -> None:
    """Ray waits for ever for what no node has. Raises RunError with the setting to lower."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for what, each in needs.items():
        need, there = each * workers_per_node, max(node.get(what, 0) for node in nodes)
        if need > there:
            raise RunError(
                f"the student's training needs {need:g} {what} on one machine, "
                f"the largest that Ray knows has {there:g}; lower {SETTING[what]}"
            )


class Progress(UserCallback):
    """Writes the epochs into the run's events; Ray calls it in a process on the coordinator's machine."""

    def __init__(self, events: Path, who: str, epochs: int) -> None:
        self.about = (events, who, epochs)
        self.report: Callable[[EpochLog], None] | None = None

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        events, who, epochs = self.about
        self.report = self.report or epoch_reporter(EventLog(events), who, epochs)
        self.report(EpochLog(**metrics[0]))


def _collect(job: StudentJob, place: str, ticket: str, scratch: Path) -> None:
    """The results to `job.out`, the student's weights as the last; then nothing is left of the place."""
    folder = storage.fetch(place, scratch)
    refusal = ray_worker.refusal(ticket, folder)
    for name in (ray_worker.TICKET, ray_worker.REFUSAL):
        (job.out / name).unlink(missing_ok=True)
    if refusal:
        raise RunError(refusal)
    if job.storage is not None:
        for name in reversed(RESULTS):
            shutil.copyfile(folder / name, job.out / f"{name}.part")
            (job.out / f"{name}.part").replace(job.out / name)
        storage.forget(place)


def _cause(error: WorkerGroupError) -> str:
    """The last line of what the first worker to fail said: the exception itself, without its traceback."""
    return str(next(iter(error.worker_failures.values()))).strip().splitlines()[-1]
