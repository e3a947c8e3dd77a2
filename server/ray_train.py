"""The student on Ray Train: what each worker does, and how the workers are started.

The unfinished training lies in one place, as `train.fit` leaves it: last.pt, best.pt, history.csv. Every attempt begins by
looking there, so a worker that was killed, a training that was killed whole and a worker on another node all go on by the
same rule, and by the same one as the in-process engine. Ray's own checkpoints would be a second copy of the same state, in
a list that is not written atomically and that another version of Ray refuses.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import ray
import ray.train
import ray.train.torch
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nakt_fed.errors import NaktError, RunError
from nakt_fed.events import EventLog
from nakt_fed.progress import epoch_reporter
from nakt_fed.student import StudentJob, train_student
from nakt_fed.team import Team
from nakt_fed.train import EpochLog

from . import storage

TICKET, REFUSAL = "student.job", "student.refused"
RESULTS = ("student.safetensors", "student.json", "history.csv")
MAX_FAILURES = 3


def train(job: StudentJob, scratch: Path, private: bool) -> None:
    """Train on the Ray that this process is connected to; the results are in `job.out` afterwards.

    Args:
        scratch: folder for Ray's own notes on the run.
        private: whether this Ray was started for this training alone.

    Raises:
        NaktError: what a worker refuses to do.
        RunError: a worker failed or died more than MAX_FAILURES times.
    """
    place = place_of(job)
    _leave_ticket(job, place, scratch)
    try:
        trainer(job, place, scratch, private).fit()
    except TrainingFailedError as error:
        raise RunError(f"a worker failed {MAX_FAILURES + 1} times, at last with: {_cause(error)}") from error
    _collect(job, place, Path(tempfile.mkdtemp(dir=scratch)))


def place_of(job: StudentJob) -> str:
    """Where the unfinished training lies: in the out folder, or under `job.storage` in the run's name."""
    if job.storage is None:
        return str(job.out)
    below = f"{job.events.parent.name}/{job.who}"
    return f"{job.storage.rstrip('/')}/{quote(below) if storage.is_url(job.storage) else below}"


def trainer(job: StudentJob, place: str, scratch: Path, private: bool) -> TorchTrainer:
    """Workers with `job.threads` CPUs each and, where there are any, GPUs. A private Ray has one nominal CPU per worker."""
    gpus = job.gpus_per_worker or float(ray.cluster_resources().get("GPU", 0) >= job.workers)
    needs = {"CPU": 1.0 if private else float(job.threads), **({"GPU": gpus} if gpus else {})}
    ray.cloudpickle.register_pickle_by_value(sys.modules[__package__])  # a cluster has nakt_fed, but not this app
    return TorchTrainer(
        work,
        train_loop_config={"job": job.model_dump(mode="json"), "place": place, "gpus": gpus, "init": _bytes_of(job.init)},
        # NCCL refuses two workers on one GPU
        torch_config=TorchConfig(backend="nccl" if gpus >= 1 else "gloo"),
        scaling_config=ScalingConfig(num_workers=job.workers, use_gpu=bool(gpus), resources_per_worker=needs),
        run_config=RunConfig(
            name="student",
            storage_path=str(scratch / "train"),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[Progress(job.events, job.who, job.recipe.epochs)],
        ),
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


def work(config: dict[str, Any]) -> None:
    """One worker. A refusal (NaktError) is no accident: it is written down, and the next attempt ends at once."""
    place, job = config["place"], StudentJob.model_validate(config["job"])
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder = storage.fetch(place, scratch)
        _check_ticket(job, folder, place)
        if (folder / REFUSAL).exists():
            return
        try:
            _learn(job, folder, place, scratch, config)
        except NaktError as error:
            (folder / REFUSAL).write_text(str(error), encoding="utf-8")
            storage.publish(folder, place)
            raise


def _learn(job: StudentJob, folder: Path, place: str, scratch: Path, config: dict[str, Any]) -> None:
    team = _team(bool(config["gpus"]))

    def each(log: EpochLog) -> None:
        if team.leads:
            storage.publish(folder, place)
        ray.train.report(asdict(log))

    here = {"out": folder, "events": scratch / "events.jsonl", "init": _checkpoint_of(config["init"], scratch)}
    train_student(job.model_copy(update=here), team, each)
    if team.leads:
        storage.publish(folder, place)


def _team(gpu: bool) -> Team:
    context = ray.train.get_context()
    device = ray.train.torch.get_device() if gpu else torch.device("cpu")

    def wrap(model: nn.Module) -> nn.Module:
        return DistributedDataParallel(model, device_ids=[device] if gpu else None) if context.get_world_size() > 1 else model

    return Team(context.get_world_rank(), context.get_world_size(), wrap, device)


def _leave_ticket(job: StudentJob, place: str, scratch: Path) -> None:
    """By the ticket a worker knows that it sees the coordinator's place and not a folder of its own of that name."""
    folder = Path(place) if not storage.is_url(place) else Path(tempfile.mkdtemp(dir=scratch))
    folder.mkdir(parents=True, exist_ok=True)
    (storage.fetch(place, folder) / REFUSAL).unlink(missing_ok=True)
    (folder / TICKET).write_text(job.model_dump_json(), encoding="utf-8")
    storage.publish(folder, place)


def _check_ticket(job: StudentJob, folder: Path, place: str) -> None:
    ticket = folder / TICKET
    if not ticket.exists() or ticket.read_text(encoding="utf-8") != job.model_dump_json():
        raise RunError(
            f"the Ray worker on {os.uname().nodename} does not see {place} as the coordinator does; "
            "set student.storage to a folder that all nodes share, or to a URL (s3://bucket/folder)"
        )


def _collect(job: StudentJob, place: str, scratch: Path) -> None:
    """The results to `job.out`, the student's weights as the last; then nothing is left of the place."""
    folder = storage.fetch(place, scratch)
    if (folder / REFUSAL).exists():
        raise RunError((folder / REFUSAL).read_text(encoding="utf-8"))
    for name in reversed(RESULTS) if folder != job.out else ():
        shutil.copyfile(folder / name, job.out / f"{name}.part")
        (job.out / f"{name}.part").replace(job.out / name)
    (job.out / TICKET).unlink(missing_ok=True)
    if job.storage is not None:
        storage.forget(place)


def _bytes_of(checkpoint: Path | None) -> dict[str, bytes]:
    """The files of a checkpoint by their endings: workers elsewhere do not see the run folder."""
    return {suffix: checkpoint.with_suffix(suffix).read_bytes() for suffix in (".safetensors", ".json")} if checkpoint else {}


def _checkpoint_of(files: dict[str, bytes], scratch: Path) -> Path | None:
    for suffix, data in files.items():
        (scratch / f"init{suffix}").write_bytes(data)
    return scratch / "init.safetensors" if files else None


def _cause(error: TrainingFailedError) -> str:
    """The first worker's own words, without Ray's."""
    failures = getattr(error, "worker_failures", {})
    first = str(next(iter(failures.values()), error)).strip()
    return first.splitlines()[-1]
