"""Algorithm 2 at a site: a student is fine-tuned on private pictures, in this process or in one of its own.

In a deployment it is one of its own, so that the teacher answers meanwhile; whichever is killed, the training goes on from
its last epoch when it is asked for again; likewise where the disk was full.
"""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from nakt_fed.checkpoint import is_saved, save_checkpoint
from nakt_fed.data.folders import PictureSet
from nakt_fed.data.split import split_pictures
from nakt_fed.errors import NaktError, RunError, is_disk_full
from nakt_fed.locks import only_one
from nakt_fed.processes import end_guarded, start_guarded
from nakt_fed.seeds import draw
from nakt_fed.site.evaluation import student
from nakt_fed.site.personal_order import PersonalOrder
from nakt_fed.site.personal_runs import refuse_withdrawn
from nakt_fed.site_data import PrivateData, private_data
from nakt_fed.study_tables import SiteSpec
from nakt_fed.train import fit
from nakt_fed.training_state import EpochLog

LOG = "training.log"
NICE = 5  # the teacher's answers come first
DISK_FULL = 75  # exit code of the process of its own


class Job(BaseModel):
    """All that a training process needs to know; JSON. `folder` is the personalised student's own, at the site."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    folder: Path
    order: PersonalOrder
    site: SiteSpec
    image_size: int
    seed: int
    threads: int

    @property
    def received(self) -> Path:
        """The student as the coordinator sent it."""
        return self.folder / "received.bytes"

    @property
    def weights(self) -> Path:
        """The personalised student; its JSON lies beside it."""
        return self.folder / "student.safetensors"


class Trainer(Protocol):
    """Leaves `job.weights`; or says in words how far it is, and wants to be asked again."""

    def __call__(self, job: Job, data: PrivateData) -> str: ...


def learnable(data: PrivateData) -> PictureSet:
    """The annotated pictures that may be learned from: all but the test share."""
    parts = [part for part in (data.train, data.validation) if part.masks is not None]
    if not parts:
        return data.train.subset([])
    images, masks = (np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "masks"))
    ids, groups = ([name for part in parts for name in getattr(part, names) or []] for names in ("ids", "groups"))
    return PictureSet(ids, images, masks, groups=groups or None)


def train_here(job: Job, data: PrivateData, on_epoch: Callable[[EpochLog], None] | None = None) -> str:
    """Line 12 of Algorithm 2 in this process; an unfinished training in `job.folder` goes on. Returns no words: it is done.

    Raises:
        DataError: fewer than two annotated pictures.
        RunError: the loss is not finite, another process works in the folder, or the approval was withdrawn, which is seen
            after every epoch.
    """
    torch.set_num_threads(job.threads)
    order, pictures, seed = job.order, learnable(data), draw(job.seed, job.site.name, "personalised")
    rest, held = split_pictures(pictures, order.recipe.validation, seed)

    def each(log: EpochLog) -> None:
        refuse_withdrawn(job.folder)
        if on_epoch:
            on_epoch(log)

    with only_one(job.folder):
        refuse_withdrawn(job.folder)
        model = student(job.received.read_bytes(), order.network)
        history = fit(
            model,
            pictures.subset(rest),
            order.recipe,
            folder=job.folder,
            seed=seed,
            validation=pictures.subset(held),
            on_epoch=each,
        )
        save_checkpoint(
            job.weights,
            model.cpu(),
            order.network,
            role="student, personalised",
            personalised_at=job.site.name,
            student_sha256=order.student,
            recipe=order.recipe.model_dump(mode="json"),
            n_images=len(rest),
            image_size=job.image_size,
            epochs=len(history),
        )
    return ""


class Beside:
    """A `Trainer` that trains in a process of its own, one training at a time; it ends when this process does."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.guard: subprocess.Popen[bytes] | None = None

    def __call__(self, job: Job, data: PrivateData) -> str:
        """Start it, or look how far it is.

        Raises:
            RunError: it failed; the next call starts it again.
            OSError: the disk is full; the next call goes on from its last epoch.
        """
        code = self.guard.poll() if self.guard else 0
        if self.guard and code is None:
            return _progress(job) if self.folder == job.folder else "another student is fine-tuned here first"
        asked = self.folder
        self.end()
        if asked == job.folder and is_saved(job.weights):
            return ""
        if asked == job.folder and code == DISK_FULL:
            raise OSError(
                errno.ENOSPC, "no room for what the fine-tuning keeps; free some, it goes on when it is asked again"
            )
        if asked == job.folder and (job.folder / LOG).exists():  # else it was withdrawn, and is wanted again
            raise RunError(f"fine-tuning the student failed, exit code {code}: {_last_words(job.folder / LOG)}")
        self.folder, self.guard = job.folder, _start(job)
        return _progress(job)

    def end(self) -> None:
        """End the training, if there is one; it goes on from its last epoch when it is asked for again."""
        if self.guard:
            end_guarded(self.guard)
        self.folder = self.guard = None


def _start(job: Job) -> subprocess.Popen[bytes]:
    path = job.folder / "job.json"
    path.write_text(job.model_dump_json(), encoding="utf-8")
    with (job.folder / LOG).open("wb") as sink:
        return start_guarded([sys.executable, "-P", "-m", __name__, str(path)], env=os.environ, sink=sink)


def _progress(job: Job) -> str:
    """By the lines of history.csv, of which the first is its head."""
    try:
        done = (job.folder / "history.csv").read_text(encoding="utf-8").count("\n") - 1
    except OSError:
        done = 0
    return f"epoch {max(0, done)} of {job.order.recipe.epochs} is done"


def _last_words(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace").strip()[-2000:] or f"{log} is empty"


def main(path: Path) -> int:
    """The process of its own."""
    job = Job.model_validate_json(path.read_bytes())
    os.nice(NICE)
    try:
        train_here(job, private_data(job.site, job.image_size, job.seed))
    except NaktError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        if not is_disk_full(error):
            raise
        return DISK_FULL
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
