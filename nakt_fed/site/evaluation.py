"""A student judged at a site: its Dice and the teacher's on the private pictures. Mean, spread and number leave, no more."""

from collections.abc import Sequence
from typing import Any

from nakt_fed.classes import ONE
from nakt_fed.data.folders import PictureSet
from nakt_fed.errors import AnswerError
from nakt_fed.exchange import Reply, Request
from nakt_fed.predict import Teacher, probabilities
from nakt_fed.site.scores import FEW, Answer, scores, scores_of_classes, shown
from nakt_fed.site.sent_student import student
from nakt_fed.site_data import PrivateData

MIN_EVALUATED = 10
"""A mean over fewer pictures says too much about each of them."""
TOO_FEW = "this site has too few annotated pictures of its own to judge a student without saying much of each of them"


def evaluated(
    request: Request,
    data: PrivateData,
    teacher: Teacher,
    min_evaluated: int = MIN_EVALUATED,
    classes: Sequence[str] = (),
) -> Reply:
    """Dice at threshold 0.5 of the student in `request` and of the site's teacher, on the site's annotated private pictures.

    In a simulation, where the teacher has learned from some of them, on those that were held out as test set.

    The reply's meta is {"n", "student": {"mean", "std"}, "teacher": {"mean", "std"}}, Dice as fractions to four digits. With
    fewer than `min_evaluated` pictures that show a target it is the refusal `too_few_images`, which does not say how many there are.

    Where the request names the student's classes, it is {"classes": {class: the same, or {"refused": "too_few_images"}}} of
    each class that the site knows, its `classes`; see `scores_of_classes`.

    Raises:
        AnswerError: the bytes are no safetensors, do not fit the network, or answer with NaN; or the network is none
            that this site builds; or it knows other classes than the site.
    """
    parts = judged_on(data)
    if max(shown(parts, classes).values()) < min_evaluated:
        return Reply(False, {"reason": FEW, "message": TOO_FEW})
    labels = _labels(request.meta.get("classes"), classes)
    models = {"student": _answer(request, labels, classes), "teacher": teacher}
    if labels == ONE:
        return Reply(True, scores(parts, models))
    return Reply(True, {"classes": scores_of_classes(parts, models, classes, min_evaluated)})


def judged_on(data: PrivateData) -> list[PictureSet]:
    """The annotated private pictures that a student is judged on: the test share, or all where there is none."""
    everything = (data.test,) if len(data.test) else (data.train, data.validation)
    return [part for part in everything if part.masks is not None and len(part)]


def _labels(sent: Any, known: Sequence[str]) -> tuple[str, ...]:
    """The student's classes in the order of its outputs; `ONE` where the request names none."""
    if sent is None and len(known) < 2:
        return ONE
    names = sent if isinstance(sent, list) and all(isinstance(name, str) for name in sent) else []
    if not known or not set(known) <= set(names) or names != sorted(set(names)) or len(names) < 2:
        raise AnswerError(
            f"the student's classes are not two or more names in their order with this site's {list(known)} among them; "
            "write the same classes in the study and in the site's own file"
        )
    return tuple(names)


def _answer(request: Request, labels: Sequence[str], known: Sequence[str]) -> Answer:
    """The student's probabilities in the shape of the site's masks: of the classes that the site knows."""
    model, count = student(request.blob, request.meta.get("network"), len(labels)), len(labels)
    if count == 1:
        return lambda pictures: probabilities(model, pictures)
    planes = [labels.index(label) for label in known]
    chosen = planes if len(planes) > 1 else planes[0]
    return lambda pictures: probabilities(model, pictures, classes=count)[:, chosen]
