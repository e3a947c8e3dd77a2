"""A student judged at a site: its Dice and the teacher's on the private pictures. Mean, spread and number leave, no more."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as parse_weights
from torch import Tensor, nn

from nakt_fed.classes import ONE
from nakt_fed.data.folders import PictureSet
from nakt_fed.errors import AnswerError, StudyError
from nakt_fed.exchange import Reply, Request
from nakt_fed.networks import build_network, describe, is_user_factory
from nakt_fed.predict import Teacher, probabilities
from nakt_fed.recipe import NetworkSpec
from nakt_fed.site.scores import FEW, Answer, scores, scores_of_classes
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
    fewer than `min_evaluated` pictures it is the refusal `too_few_images`, which does not say how many there are.

    Where the request names the student's classes, it is {"classes": {class: the same, or {"refused": "too_few_images"}}} of
    each class that the site knows, its `classes`; see `scores_of_classes`.

    Raises:
        AnswerError: the bytes are no safetensors, do not fit the network, or answer with NaN; or the network is none
            that this site builds; or it knows other classes than the site.
    """
    parts = judged_on(data)
    if sum(map(len, parts)) < min_evaluated:
        return Reply(False, {"reason": FEW, "message": TOO_FEW})
    labels = _labels(request.meta.get("classes"), classes)
    models = {"student": _answer(request, labels, classes), "teacher": teacher}
    if labels == ONE:
        return Reply(True, scores(parts, models))
    told = scores_of_classes(parts, models, classes, min_evaluated)
    if not any("n" in score for score in told.values()):
        return Reply(False, {"reason": FEW, "message": TOO_FEW})
    return Reply(True, {"classes": told})


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


def student(blob: bytes, network: Any, classes: int = 1) -> nn.Module:
    """The network that the coordinator sent: weights as data only, and no code of its choice is imported.

    Raises:
        AnswerError: see `evaluated`.
    """
    spec = _spec(network, classes)
    try:
        weights = parse_weights(blob)
    except (SafetensorError, KeyError) as error:  # KeyError: a number type that torch lacks
        raise AnswerError(f"the student to evaluate is no safetensors file ({error}); send it again") from None
    _refuse_misfits(_outline(spec), weights, spec)
    with torch.random.fork_rng(devices=[]):
        model = _built(spec)
    model.load_state_dict(weights)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _spec(network: Any, classes: int) -> NetworkSpec:
    try:
        spec = NetworkSpec.model_validate(network)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "network"
        raise AnswerError(
            f"the student's network cannot be read: {where}: {fault['msg']}; send its network settings"
        ) from None
    if spec.classes != classes:
        raise AnswerError(
            f"the student's network has classes = {spec.classes}, expected {classes}; send the student's own settings"
        )
    if is_user_factory(spec.network):
        raise AnswerError(
            f"the student's network {spec.network!r} is code of the coordinator's choice, which no site imports; "
            "evaluate a network that nakt-fed knows by name"
        )
    return spec


def _built(spec: NetworkSpec) -> nn.Module:
    try:
        return build_network(spec)
    except (StudyError, RuntimeError) as error:  # RuntimeError: a size beyond what torch can count
        raise AnswerError(
            f"the student's network cannot be built here ({error}); send one that this site knows"
        ) from None


def _outline(spec: NetworkSpec) -> dict[str, Tensor]:
    """Names, shapes and types of its weights, without memory: a width chosen from outside must not fill the machine."""
    try:
        with torch.device("meta"):
            return build_network(spec).state_dict()
    except (StudyError, RuntimeError):  # an encoder that computes while it is built; its size goes by its name
        if spec.width is not None:
            raise AnswerError(
                f"no network of width {spec.width} can be built; send the student's own settings"
            ) from None
        return _built(spec).state_dict()


def _refuse_misfits(expected: dict[str, Tensor], found: dict[str, Tensor], spec: NetworkSpec) -> None:
    faults = [name for name in expected.keys() | found.keys() if _kind(expected, name) != _kind(found, name)]
    if faults:
        raise AnswerError(
            f"the student's weights do not fit {describe(spec)}: {len(faults)} tensors differ, such as {min(faults)!r}; "
            "send the network settings that the student was trained with"
        )


def _kind(weights: dict[str, Tensor], name: str) -> tuple[torch.dtype, torch.Size] | None:
    return (weights[name].dtype, weights[name].shape) if name in weights else None
