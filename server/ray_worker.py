"""What one worker of the student's training does.

The unfinished training lies in one place, as `train.fit` leaves it: last.pt, best.pt, history.csv. Every attempt begins
by looking there, so a worker that was killed, a training that was killed whole and a worker on another node all go on
by the same rule, and by the same one as the in-process engine. Ray's own checkpoints would be a second copy of the same
state, in a list that is not written atomically and that another version of Ray refuses.
"""

import socket
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nakt_fed.errors import NaktError, RunError
from nakt_fed.student import StudentJob, train_student
from nakt_fed.team import Team
from nakt_fed.training_state import EpochLog

from . import storage

TICKET, REFUSAL = "student.ticket", "student.refused"
SUFFIXES = (".safetensors", ".json")


def work(config: dict[str, Any]) -> None:
    """One worker. A refusal (NaktError) is no accident: it is written down, and the next attempt ends at once.

    It raises all the same: the others of the team wait for this worker, and Ray ends them only when one fails.
    """
    place, ticket = config["place"], config["ticket"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = storage.fetch(place, Path(scratch))
        check_ticket(ticket, folder, place)
        if refusal(ticket, folder):
            return
        try:
            _learn(config, folder, Path(scratch))
        except NaktError as error:
            (folder / REFUSAL).write_text(f"{ticket} {error}", encoding="utf-8")
            storage.publish(folder, place)
            raise


def _learn(config: dict[str, Any], folder: Path, scratch: Path) -> None:
    team = _team(config["gpu"])

    def each(log: EpochLog) -> None:
        if team.leads:
            storage.publish(folder, config["place"])
        ray.train.report(asdict(log))

    init = _checkpoint_from(config["init"], scratch)
    here = {"out": folder, "events": scratch / "events.jsonl", "init": init}
    train_student(StudentJob.model_validate(config["job"]).model_copy(update=here), team, each)
    if team.leads:
        storage.publish(folder, config["place"])


def _team(gpu: bool) -> Team:
    context = ray.train.get_context()
    size = context.get_world_size()
    device = ray.train.torch.get_device() if gpu else torch.device("cpu")

    def wrap(model: nn.Module) -> nn.Module:
        return DistributedDataParallel(model, device_ids=[device] if gpu else None) if size > 1 else model

    return Team(context.get_world_rank(), size, wrap, device)


def leave_ticket(ticket: str, place: str, scratch: Path) -> None:
    """By it a worker knows that it sees the coordinator's place, not a folder of its own node by the same name."""
    folder = Path(tempfile.mkdtemp(dir=scratch)) if storage.is_url(place) else Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TICKET).write_text(ticket)
    storage.publish(folder, place)


def check_ticket(ticket: str, folder: Path, place: str) -> None:
    """Raises RunError when `folder`, what the worker sees of the place, lacks the ticket of this very call."""
    if not (folder / TICKET).exists() or (folder / TICKET).read_text() != ticket:
        raise RunError(
            f"the Ray worker on {socket.gethostname()} does not see {place} as the coordinator does; "
            "set student.storage to a folder that all nodes share, or to a URL (s3://bucket/folder)"
        )


def refusal(ticket: str, folder: Path) -> str:
    """Why a worker of this very call refused to go on, or nothing."""
    text = (folder / REFUSAL).read_text(encoding="utf-8") if (folder / REFUSAL).exists() else ""
    return text.removeprefix(f"{ticket} ") if text.startswith(f"{ticket} ") else ""


def checkpoint_bytes(path: Path | None) -> dict[str, bytes]:
    """The files of a checkpoint by their endings: workers elsewhere do not see the run folder."""
    return {} if path is None else {suffix: path.with_suffix(suffix).read_bytes() for suffix in SUFFIXES}


def _checkpoint_from(files: dict[str, bytes], scratch: Path) -> Path | None:
    """Written outside of what is published."""
    if not files:
        return None
    folder = scratch / "init"
    folder.mkdir()
    for suffix, data in files.items():
        (folder / f"init{suffix}").write_bytes(data)
    return folder / "init.safetensors"
