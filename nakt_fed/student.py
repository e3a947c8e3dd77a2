"""What fits a student: a job that any process can do, and the way to do it in this one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from nakt_fed.calibrate import ONE_HALF, PICTURES, calibrate_classes
from nakt_fed.checkpoint import load_checkpoint, save_checkpoint
from nakt_fed.data.folders import PictureSet
from nakt_fed.data.split import split, split_groups
from nakt_fed.events import EventLog
from nakt_fed.progress import epoch_reporter
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.seeds import draw
from nakt_fed.store import open_group
from nakt_fed.teacher import classes_of, fresh_network
from nakt_fed.team import ALONE, Team
from nakt_fed.train import fit
from nakt_fed.training_state import EpochLog

IN_MEMORY = 2 * 2**30
"""A pseudo-annotated set up to this many bytes is held in memory while training; a larger one is read batch by batch."""


class StudentJob(BaseModel):
    """All that a training process needs to know; JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    who: str
    pseudo: str
    out: Path
    events: Path
    network: NetworkSpec
    recipe: Recipe
    seed: int
    threads: int
    workers: int = 1
    gpus_per_worker: float = 0
    storage: str | None = None
    init: Path | None = None
    calibrate: bool = False
    classes: tuple[str, ...] = ()


FitStudent = Callable[[StudentJob], None]
"""Leaves student.safetensors, student.json and history.csv in `job.out`."""


def pseudo_sets(job: StudentJob) -> tuple[PictureSet, PictureSet]:
    """The pseudo-annotated set (training, validation). The views of a picture that is held out are used for neither; patients,
    where they are known, are held out whole."""
    group = open_group(job.pseudo)
    ids: list[str] = list(group.attrs["ids"])  # type: ignore[arg-type]
    known = np.asarray(group["known"][:]) if "known" in group else None  # type: ignore[index]
    whole = PictureSet(ids, group["images"], group["masks"], known)
    groups: Any = group.attrs.get("groups")
    seed = draw(job.seed, "validation")
    apart = split_groups if groups else _by_origin
    training, validation = apart(groups or ids, job.recipe.validation, seed)
    if whole.images.size + whole.masks.size <= IN_MEMORY:
        return whole.subset(training), whole.subset(validation)
    names, stacks = [ids[row] for row in training], (_Rows(whole.images, training), _Rows(whole.masks, training))
    return PictureSet(names, *stacks, None if known is None else known[training]), whole.subset(validation)


def _by_origin(ids: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    origins = list(dict.fromkeys(_origin(i) for i in ids))
    aside = {origins[index] for index in split(origins, share, seed)[1]}
    validation = [row for row, i in enumerate(ids) if i in aside]
    return [row for row, i in enumerate(ids) if _origin(i) not in aside], validation


def _origin(picture: str) -> str:
    """`thyroid/12~003` is a view of `thyroid/12`."""
    head, mark, tail = picture.rpartition("~")
    return head if mark and tail.isdigit() else picture


class _Rows:
    """Some rows of a zarr array, read when asked for."""

    def __init__(self, array: object, rows: list[int]) -> None:
        self.array, self.rows = array, np.array(rows)
        self.shape = (len(rows), *array.shape[1:])  # type: ignore[attr-defined]

    @property
    def oindex(self) -> "_Rows":
        return self

    def __getitem__(self, indices: Any) -> np.ndarray:
        return np.asarray(self.array.oindex[self.rows[indices]])  # type: ignore[attr-defined]


def start_network(job: StudentJob) -> torch.nn.Module:
    """A fresh network, or the one to be fine-tuned."""
    if job.init is not None:
        return load_checkpoint(job.init, expect=job.network)[0]
    return fresh_network(job.network, draw(job.seed, "student"))


def train_student(job: StudentJob, team: Team = ALONE, on_epoch: Callable[[EpochLog], None] | None = None) -> None:
    """Line 11 of Algorithm 1 (or 12 of Algorithm 2) in this process; with a team, every worker calls it."""
    torch.set_num_threads(job.threads)
    model = start_network(job)
    training, validation = pseudo_sets(job)
    report = epoch_reporter(EventLog(job.events) if team.leads else None, job.who, job.recipe.epochs)

    def each(log: EpochLog) -> None:
        report(log)
        if on_epoch:
            on_epoch(log)

    history = fit(
        model,
        training,
        job.recipe,
        folder=job.out,
        seed=draw(job.seed, job.who),
        validation=validation,
        on_epoch=each,
        team=team,
    )
    if team.leads:
        cuts = calibrate_classes(model, *_some_pictures(job)) if job.calibrate else [ONE_HALF] * job.network.classes
        save_checkpoint(
            job.out / "student.safetensors",
            model.cpu(),
            job.network,
            role=job.who,
            epochs=len(history),
            pictures=len(training),
            image_size=training.images.shape[1],
            calibrated_from=cuts[0] if len(cuts) == 1 else list(cuts),
            **classes_of(job.classes),
        )


def _some_pictures(job: StudentJob) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Evenly spread over the pseudo-annotated set, `PICTURES` at the most: pictures (n, H, W), their pseudo masks (n, C, H, W),
    and of several classes which of the masks are known."""
    whole: Any = open_group(job.pseudo)
    rows = np.unique(np.linspace(0, whole["images"].shape[0] - 1, PICTURES).round().astype(int))
    masks = whole["masks"].oindex[rows]
    known = np.asarray(whole["known"][:])[rows] if "known" in whole else None
    return whole["images"].oindex[rows], masks if known is not None else masks[:, None], known
