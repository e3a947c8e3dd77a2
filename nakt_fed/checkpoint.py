"""Weights as safetensors, with a JSON of the same stem that says which network they belong to and where they come from.

A checkpoint may come from a stranger, so it is data only: no pickle is opened, no module is imported at its word.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as parse_weights
from safetensors.torch import save as dump_weights
from torch import Tensor, nn

from nakt_fed.data.pictures import PREPROCESSING
from nakt_fed.errors import CheckpointError, StudyError
from nakt_fed.networks import build_network, describe, is_user_factory, resolve
from nakt_fed.study import NetworkSpec

T = TypeVar("T")

VERSION = 1
SUFFIX = ".safetensors"
NAMED = 3  # tensors named in a message


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
    # clones: safetensors refuses tensors that share memory
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    _refuse_not_finite(weights, f"the network to be saved as {path}", "its training diverged, lower learning_rate")
    data = dump_weights(weights)
    card = Card(
        version=VERSION,
        network=resolve(spec),
        preprocessing=PREPROCESSING,
        weights_sha256=hashlib.sha256(data).hexdigest(),
        provenance=provenance,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_atomically(path, data)
    _write_atomically(path.with_suffix(".json"), (card.model_dump_json(indent=2) + "\n").encode())


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
    data = _read_weights(path)
    card = _read_card(path.with_suffix(".json"))
    spec = _agreed_spec(path, card, expect)
    weights = _parse_weights(path, data, card)
    with torch.random.fork_rng(devices=[]):
        model = _or_refuse(path, build_network, spec).cpu()
    _refuse_misfits(path, model.state_dict(), weights, describe(spec))
    _refuse_not_finite(weights, f"checkpoint {path}", "train it again with a lower learning_rate")
    model.load_state_dict(weights)
    return model.eval(), card.model_dump(mode="json")


def _read_weights(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    if path.suffix in {".pt", ".pth"} or _is_pickle(data[:9]):
        raise CheckpointError(
            f"checkpoint {path} is a pickle, which can run any code when it is opened, so it is refused; let its owner "
            f"convert it: load its state dict into build_network(spec), then save_checkpoint('{path.stem}{SUFFIX}', "
            "model, spec) (docs/networks.md, “Converting a .pt file”)"
        )
    return data


def _is_pickle(head: bytes) -> bool:
    """Torch's zip, or pickle's opcode PROTO; a safetensors file may start with that byte too, but has "{" at byte 8."""
    return head.startswith(b"PK\x03\x04") or (head.startswith(b"\x80") and head[8:9] != b"{")


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


def _parse_weights(path: Path, data: bytes, card: Card) -> dict[str, Tensor]:
    try:
        weights = parse_weights(data)
    except (SafetensorError, KeyError) as error:  # KeyError: a number type that torch lacks
        raise CheckpointError(f"checkpoint {path} is cut off or no {SUFFIX} file ({error}); copy it again") from None
    if (found := hashlib.sha256(data).hexdigest()) != card.weights_sha256:
        raise CheckpointError(
            f"checkpoint {path} has sha256 {found[:12]}…, its JSON says {card.weights_sha256[:12]}…: "
            "they were not saved together, or one was changed; copy both again"
        )
    return weights


def _refuse_misfits(path: Path, expected: dict[str, Tensor], found: dict[str, Tensor], network: str) -> None:
    """Names, shapes and number types of all tensors, before any is copied."""
    faults = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape or type": [
            f"{name} (expected {_kind(expected[name])}, got {_kind(found[name])})"
            for name in expected
            if name in found and _kind(expected[name]) != _kind(found[name])
        ],
    }
    told = "; ".join(f"{len(names)} {fault}: {_first(names)}" for fault, names in faults.items() if names)
    if told:
        raise CheckpointError(
            f"checkpoint {path} does not fit {network}: {told}; correct the network in its JSON, or save it again"
        )


def _refuse_not_finite(weights: dict[str, Tensor], what: str, remedy: str) -> None:
    if names := [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]:
        raise CheckpointError(f"{what} holds NaN or infinite weights in {_first(names)}; {remedy}")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _first(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


def _write_atomically(path: Path, data: bytes) -> None:
    """Readers see the old file or the new one, whole, also after a power cut."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
