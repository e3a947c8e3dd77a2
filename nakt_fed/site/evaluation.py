"""A student judged at a site: its Dice and the teacher's on the private pictures. Mean, spread and number leave, no more."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as parse_weights
from torch import Tensor, nn

from nakt_fed.data.folders import PictureSet
from nakt_fed.errors import AnswerError, StudyError
from nakt_fed.exchange import Reply, Request
from nakt_fed.metrics import dice, summary
from nakt_fed.networks import build_network, describe, is_user_factory
from nakt_fed.predict import Teacher, probabilities, quantise
from nakt_fed.recipe import NetworkSpec
from nakt_fed.site_data import PrivateData

MIN_EVALUATED = 10
"""A mean over fewer pictures says too much about each of them."""
BLOCK = 64  # pictures whose soft masks are in memory at a time
DIGITS = 4
TOO_FEW = "this site has too few annotated pictures of its own to judge a student without saying much of each of them"
Answer = Callable[[NDArray[np.uint8]], Any]
"""Pictures (n, H, W) uint8 -> probabilities (n, H, W)."""


def evaluated(request: Request, data: PrivateData, teacher: Teacher, min_evaluated: int = MIN_EVALUATED) -> Reply:
    """Dice at threshold 0.5 of the student in `request` and of the site's teacher, on the site's annotated private pictures.

    In a simulation, where the teacher has learned from some of them, on those that were held out as test set.

    The reply's meta is {"n", "student": {"mean", "std"}, "teacher": {"mean", "std"}}, Dice as fractions to four digits.
    With fewer than `min_evaluated` pictures it is the refusal `too_few_images`, which does not say how many there are.

    Raises:
        AnswerError: the bytes are no safetensors, do not fit the network, or answer with NaN; or the network is none
            that this site builds.
    """
    everything = (data.test,) if len(data.test) else (data.train, data.validation)
    parts = [part for part in everything if part.masks is not None and len(part)]
    if sum(map(len, parts)) < min_evaluated:
        return Reply(False, {"reason": "too_few_images", "message": TOO_FEW})
    model = student(request.blob, request.meta.get("network"))
    return Reply(True, scores(parts, {"student": lambda pictures: probabilities(model, pictures), "teacher": teacher}))


def scores(parts: list[PictureSet], models: Mapping[str, Answer]) -> dict[str, Any]:
    """{"n", each model: {"mean", "std"}}: Dice over all pictures of `parts`, as fractions to four digits; nothing else leaves.

    Raises:
        AnswerError: a model answers with another shape, or with what is no probability.
    """
    told = {name: summary(_dice(parts, answer)) for name, answer in models.items()}
    means = {name: {"mean": round(s.mean, DIGITS), "std": round(s.std, DIGITS)} for name, s in told.items()}
    return {"n": sum(map(len, parts)), **means}


def student(blob: bytes, network: Any) -> nn.Module:
    """The network that the coordinator sent: weights as data only, and no code of its choice is imported.

    Raises:
        AnswerError: see `evaluated`.
    """
    spec = _spec(network)
    try:
        weights = parse_weights(blob)
    except (SafetensorError, KeyError) as error:  # KeyError: a number type that torch lacks
        raise AnswerError(f"the student to evaluate is no safetensors file ({error}); send it again") from None
    _refuse_misfits(_outline(spec), weights, spec)
    with torch.random.fork_rng(devices=[]):
        model = _built(spec)
    model.load_state_dict(weights)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _spec(network: Any) -> NetworkSpec:
    try:
        spec = NetworkSpec.model_validate(network)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "network"
        raise AnswerError(
            f"the student's network cannot be read: {where}: {fault['msg']}; send its network settings"
        ) from None
    if spec.classes != 1:
        raise AnswerError(f"the student's network has classes = {spec.classes}; a site judges students of 1 class")
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


def _dice(parts: list[PictureSet], answer: Answer) -> NDArray[np.float64]:
    """(n,) Dice of the answer's masks, in blocks: memory does not grow with the pictures."""
    values = []
    for images, truth in _blocks(parts):
        soft = np.asarray(answer(images))
        if soft.shape != images.shape:
            raise AnswerError(
                f"answer of shape {soft.shape} for pictures {images.shape}; one probability per pixel is expected"
            )
        values.append(dice(quantise(soft) > 127, truth > 127))
    return np.concatenate(values)


def _blocks(parts: list[PictureSet]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    for part in parts:
        for start in range(0, len(part), BLOCK):
            yield np.asarray(part.images[start : start + BLOCK]), np.asarray(part.masks[start : start + BLOCK])
