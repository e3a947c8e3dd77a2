"""Whether something can be trained at all: pictures that teach something, a network that can answer. Seconds, before hours."""

import os

import numpy as np
import torch
from torch import nn

from nakt_fed.data.folders import PictureSet
from nakt_fed.errors import DataError, StudyError
from nakt_fed.networks import describe
from nakt_fed.predict import normalise, to_input
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.study.learners import StudentSpec

CLUSTER = ("RAY_ADDRESS", "NAKT_RAY_ADDRESS")


def on_cluster() -> bool:
    """Whether the student is trained on a Ray of the user's, elsewhere."""
    return any(os.environ.get(name) for name in CLUSTER)


def refuse_useless(train: PictureSet) -> None:
    """Raise DataError when nothing can be learned from these annotated pictures."""
    if len(train) < 2:
        raise DataError(
            f"training needs at least 2 pictures, {len(train)} left when those for validation and test are held out; "
            "add pictures, or lower the shares that are held out"
        )
    if not np.any(train.masks):
        raise DataError("all masks for training are empty, so nothing can be learned from them; check the masks")


def refuse_absent_gpus(student: StudentSpec) -> None:
    """Raise StudyError when Ray Train would need GPUs that this machine lacks: it says so only after all answers are there."""
    need, there = student.workers * student.gpus_per_worker, torch.cuda.device_count()
    if need > there and not on_cluster():
        raise StudyError(
            f"workers and gpus_per_worker need {need:g} GPUs, this machine has {there}; lower gpus_per_worker "
            "(0 takes one each where there are any), or set RAY_ADDRESS to a cluster that has them"
        )


def try_network(model: nn.Module, spec: NetworkSpec, size: int, recipe: Recipe | None) -> None:
    """Let a network answer a picture or, with the recipe it is to be trained by, a small batch in training mode.

    Raises:
        StudyError: it cannot work at this size, or its answer is not one finite logit per pixel.
    """
    count = min(2, recipe.batch_size) if recipe else 1
    ramp = np.linspace(0, 255, size * size).astype(np.uint8).reshape(1, size, size)
    model.train(recipe is not None)
    try:
        with torch.no_grad():
            logits = model(normalise(to_input(np.repeat(ramp, count, axis=0))))
    except Exception as error:  # a library's or a user's own code may raise anything
        what = f"network {describe(spec)} cannot work on batches of {count} at {size}×{size}: {error}"
        raise StudyError(f"{what}; take another image_size, batch_size or network") from error
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    wanted = (count, spec.classes, size, size)
    if shape != wanted:
        raise StudyError(
            f"network {describe(spec)} answers {shape} for pictures {(count, 1, size, size)}; "
            f"let it return logits {wanted}, of the pictures' own size"
        )
    if not torch.isfinite(logits).all():
        raise StudyError(f"network {describe(spec)} answers NaN or infinity; check its weights and its normalisation")
