"""Line 12 of Algorithm 2 at a site: a student is fine-tuned on private pictures."""

from collections.abc import Callable

import numpy as np
import torch

from nakt_fed.checkpoint import save_checkpoint
from nakt_fed.data.folders import PictureSet
from nakt_fed.data.split import split_pictures
from nakt_fed.locks import only_one
from nakt_fed.seeds import draw
from nakt_fed.signing import Now, utc_now
from nakt_fed.site.personal_job import Job
from nakt_fed.site.personal_runs import refuse_ended
from nakt_fed.site.policy import is_over
from nakt_fed.site.sent_student import student
from nakt_fed.site_data import PrivateData
from nakt_fed.train import fit
from nakt_fed.training_state import EpochLog


def learnable(data: PrivateData) -> PictureSet:
    """The annotated pictures that may be learned from: all but the test share."""
    parts = [part for part in (data.train, data.validation) if part.masks is not None]
    if not parts:
        return data.train.subset([])
    images, masks = (np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "masks"))
    ids, groups = ([name for part in parts for name in getattr(part, names) or []] for names in ("ids", "groups"))
    return PictureSet(ids, images, masks, groups=groups or None)


def train_here(
    job: Job, data: PrivateData, on_epoch: Callable[[EpochLog], None] | None = None, now: Now = utc_now
) -> str:
    """Train in this process; an unfinished training in `job.folder` goes on. Returns no words: it is done.

    Raises:
        DataError: fewer than two annotated pictures.
        RunError: the loss is not finite, another process works in the folder, or the approval was withdrawn or the policy's
            last day is past, which is seen after every epoch.
    """
    torch.set_num_threads(job.threads)
    order, pictures, seed = job.order, learnable(data), draw(job.seed, job.site.name, "personalised")
    rest, held = split_pictures(pictures, order.recipe.validation, seed)

    def each(log: EpochLog) -> None:
        refuse_ended(job.folder, expired=is_over(job.expires, now()))
        if on_epoch:
            on_epoch(log)

    with only_one(job.folder):
        refuse_ended(job.folder, expired=is_over(job.expires, now()))
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
