"""The network that a coordinator sent to be judged or fine-tuned at a site: data only, and only what the site can build."""

from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as parse_weights
from torch import Tensor, nn

from nakt_fed.errors import AnswerError, StudyError
from nakt_fed.networks import build_network, describe, is_user_factory
from nakt_fed.recipe import NetworkSpec


def student(blob: bytes, network: Any, classes: int = 1) -> nn.Module:
    """The network that the coordinator sent: weights as data only, and no code of its choice is imported.

    Raises:
        AnswerError: see `nakt_fed.site.evaluation.evaluated`.
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
