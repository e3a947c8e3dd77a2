"""A student personalised at a site: it is fine-tuned on private pictures and stays there. Mean, spread and number leave.

personalised/<student and recipe>-<private pictures>/ in the site's own folder:

student.safetensors, student.json   the personalised student, with what it was made from
history.csv                         its training
numbers.json                        the answer: whoever asks again gets the same
received.bytes, last.pt, ...        while it trains only
"""

import hashlib
import json
from typing import Any

from nakt_fed.checkpoint import is_saved, load_checkpoint
from nakt_fed.errors import AnswerError
from nakt_fed.exchange import Reply
from nakt_fed.locks import in_line
from nakt_fed.predict import Teacher, probabilities
from nakt_fed.site.evaluation import TOO_FEW
from nakt_fed.site.personal_job import Job, Trainer
from nakt_fed.site.personal_list import NUMBERS
from nakt_fed.site.personal_training import learnable
from nakt_fed.site.scores import scores, shown
from nakt_fed.site.sent_student import student
from nakt_fed.site_data import PrivateData
from nakt_fed.whole_file import write_whole

LEAST_LEARNED = 2
"""Pictures; batch normalisation needs two."""
ONLY_TRAINING = ("received.bytes", "job.json", "last.pt", "best.pt", "training.log", ".lock")


def personalised(job: Job, blob: bytes, data: PrivateData, teacher: Teacher, train: Trainer, least: int) -> Reply:
    """Dice of the site's teacher, of the student as it came and of the fine-tuned one, on the test share of the private
    pictures, from which none of this learns.

    The first order comes without the student and is refused with `send_student` when it is needed; with it in `blob` the
    order is taken. Until the training is done, an order is refused with `training` and how far it is.

    The reply's meta is {"n", "teacher", "student", "personalised"}, the last three {"mean", "std"} as in an evaluation. With
    fewer than `least` pictures with a target in the test share, or next to none to learn from: `too_few_images`.

    Raises:
        AnswerError: the student is none, or does not fit its network.
        DataError, RunError: it could not be fine-tuned.
    """
    if data.test.masks is None or shown([data.test], ())[""] < least or len(learnable(data)) < LEAST_LEARNED:
        return Reply(False, {"reason": "too_few_images", "message": TOO_FEW})
    if (job.folder / NUMBERS).exists():
        return Reply(True, json.loads((job.folder / NUMBERS).read_bytes()))
    if blob:
        _take(job, blob)
        return Reply(True, {"taken": True})
    if not job.received.exists():
        return Reply(False, {"reason": "send_student", "message": "this site does not have this student yet; send it"})
    if not is_saved(job.weights) and (words := train(job, data)):
        return Reply(False, {"reason": "training", "message": words})
    with in_line(job.folder / ".lock"):  # the training's process may not quite have ended
        return Reply(True, _measured(job, data, teacher))


def _take(job: Job, blob: bytes) -> None:
    if hashlib.sha256(blob).hexdigest() != job.order.student:
        raise AnswerError("the student that came is not the one that the order names; send that one")
    student(blob, job.order.network)  # refused now, not in minutes
    job.folder.mkdir(parents=True, exist_ok=True)
    write_whole(job.received, blob)


def _measured(job: Job, data: PrivateData, teacher: Teacher) -> dict[str, Any]:
    before = student(job.received.read_bytes(), job.order.network)
    after = load_checkpoint(job.weights, expect=job.order.network)[0].to(next(before.parameters()).device)
    told = scores(
        [data.test],
        {
            "teacher": teacher,
            "student": lambda pictures: probabilities(before, pictures),
            "personalised": lambda pictures: probabilities(after, pictures),
        },
    )
    write_whole(job.folder / NUMBERS, json.dumps(told).encode())
    for name in ONLY_TRAINING:
        (job.folder / name).unlink(missing_ok=True)
    return told
