"""Weights as safetensors: data only. Nothing is unpickled, and what does not fit a network is refused before any is copied."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_weights
from safetensors.torch import save as dump_weights
from torch import Tensor, nn

from nakt_fed.errors import CheckpointError

SUFFIX = ".safetensors"
NAMED = 3  # tensors named in a message


def weights_of(model: nn.Module, path: Path) -> bytes:
    """The content of `path`.

    Raises:
        CheckpointError: NaN or infinite weights.
    """
    # clones: safetensors refuses tensors that share memory
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    refuse_not_finite(weights, f"the network to be saved as {path}", "its training diverged, lower learning_rate")
    return dump_weights(weights)


def read_weights(path: Path) -> bytes:
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


def parse(path: Path, data: bytes, sha256: str) -> dict[str, Tensor]:
    try:
        weights = parse_weights(data)
    except (SafetensorError, KeyError) as error:  # KeyError: a number type that torch lacks
        raise CheckpointError(f"checkpoint {path} is cut off or no {SUFFIX} file ({error}); copy it again") from None
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise CheckpointError(
            f"checkpoint {path} has sha256 {found[:12]}…, its JSON says {sha256[:12]}…: "
            "they were not saved together, or one was changed; copy both again"
        )
    return weights


def refuse_misfits(path: Path, expected: dict[str, Tensor], found: dict[str, Tensor], network: str) -> None:
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


def refuse_not_finite(weights: dict[str, Tensor], what: str, remedy: str) -> None:
    if names := [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]:
        raise CheckpointError(f"{what} holds NaN or infinite weights in {_first(names)}; {remedy}")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _first(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
