"""Weights as safetensors, with a JSON of the same stem that says which network they belong to and where they come from.

A checkpoint may come from a stranger, so it is data only: no pickle is opened, no module is imported at its word.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from torch import nn

from nakt_fed.data.pictures import PREPROCESSING
from nakt_fed.errors import CheckpointError, StudyError
from nakt_fed.networks import build_network, describe, is_user_factory, resolve
from nakt_fed.recipe import NetworkSpec
from nakt_fed.weights import (
    SUFFIX,
    parse,
    read_weights,
    refuse_misfits,
    refuse_not_finite,
    weights_of,
)
from nakt_fed.whole_file import write_whole

T = TypeVar("T")

VERSION = 1


class Card(BaseModel):
    """The JSON beside the weights. `network` has its defaults written out, so that it outlives a change of defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    network: NetworkSpec
    preprocessing: str
    weights_sha256: str
    provenance: dict[str, JsonValue]


def save_checkpoint(path: Path, model: nn.Module, spec: NetworkSpec, **provenance: JsonValue) -> None:
    """Write `path` and the JSON beside it, each atomically; a crash between the two leaves a pair that is refused.

    Args:
        path: ends in .safetensors; its folder is made where it is missing.
        spec: what `model` was built from.
        provenance: whatever JSON can hold (study hash, sites, versions).

    Raises:
        CheckpointError: another ending, or weights that are NaN or infinite.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise CheckpointError(f"a checkpoint is saved as {SUFFIX}, got {path}; change its ending to {SUFFIX}")
    data = weights_of(model, path)
    card = Card(
        version=VERSION,
        network=resolve(spec),
        preprocessing=PREPROCESSING,
        weights_sha256=hashlib.sha256(data).hexdigest(),
        provenance=provenance,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)
    write_whole(path.with_suffix(".json"), (card.model_dump_json(indent=2) + "\n").encode())


def is_saved(path: Path) -> bool:
    """Whether the weights and the JSON beside them are there: a kill while saving leaves one without the other."""
    return path.exists() and path.with_suffix(".json").exists()


def load_checkpoint(path: Path, expect: NetworkSpec | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """The network, in evaluation mode on the CPU, and the content of its JSON.

    Torch's random generator is left as it was.

    Args:
        path: the .safetensors file; its JSON lies beside it.
        expect: the architecture that it must have. Needed for a network of the user's own.

    Raises:
        CheckpointError: missing, damaged, a pickle, of another architecture or preprocessing, or with tensors that do
            not fit the network or are not finite.
    """
    path = Path(path)
    data = read_weights(path)
    card = _read_card(path.with_suffix(".json"))
    spec = _agreed_spec(path, card, expect)
    weights = parse(path, data, card.weights_sha256)
    with torch.random.fork_rng(devices=[]):
        model = _or_refuse(path, build_network, spec).cpu()
    refuse_misfits(path, model.state_dict(), weights, describe(spec))
    refuse_not_finite(weights, f"checkpoint {path}", "train it again with a lower learning_rate")
    model.load_state_dict(weights)
    return model.eval(), card.model_dump(mode="json")


def _read_card(path: Path) -> Card:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): it says which network the weights beside it belong to; "
            f"copy it together with the {SUFFIX} file, or save the checkpoint again"
        ) from None
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        faults = error.errors()
    if version := [fault["input"] for fault in faults if fault["loc"] == ("version",) and fault["type"] != "missing"]:
        raise CheckpointError(f"{path} has version {version[0]!r}, this nakt-fed reads {VERSION}; update nakt-fed")
    where = ".".join(map(str, faults[0]["loc"])) or "the file"
    raise CheckpointError(
        f"{path} does not describe a checkpoint: {where}: {faults[0]['msg']}; copy it again or save it anew"
    )


def _agreed_spec(path: Path, card: Card, expect: NetworkSpec | None) -> NetworkSpec:
    """The network that the card names, when it is the expected one."""
    # Importing a module runs it. Which one may run is for the reader's own study to say, never for the checkpoint:
    # a stranger's JSON could name any module that happens to be importable here.
    if is_user_factory(card.network.network) and (expect is None or expect.network != card.network.network):
        raise CheckpointError(
            f"checkpoint {path} asks for code of its own, {card.network.network!r}, which is not run at its word; "
            f"if you trust that code, write network = {card.network.network!r} where you name the checkpoint"
        )
    if card.preprocessing != PREPROCESSING:
        raise CheckpointError(
            f"checkpoint {path} was trained on pictures prepared by {card.preprocessing!r}, here they are prepared by "
            f"{PREPROCESSING!r}; train it again, or use the nakt-fed that saved it"
        )
    spec = _or_refuse(path, resolve, card.network)
    if expect is not None and resolve(expect) != spec:
        raise CheckpointError(
            f"checkpoint {path} holds {describe(spec)}, expected {describe(resolve(expect))}; "
            "change the network's settings to what it holds, or take another checkpoint"
        )
    return spec


def _or_refuse(path: Path, step: Callable[[NetworkSpec], T], spec: NetworkSpec) -> T:
    """What is wrong with the network is the checkpoint's fault here, not the study's."""
    try:
        return step(spec)
    except StudyError as error:
        raise CheckpointError(f"{path.with_suffix('.json')} names a network that cannot be built: {error}") from error
