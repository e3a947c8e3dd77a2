"""Segmentation networks by name: (B, 1, H, W) float -> (B, classes, H, W) logits (DESIGN §4)."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from nakt_fed.errors import StudyError
from nakt_fed.networks import smp
from nakt_fed.networks.attunet import attunet
from nakt_fed.networks.sdunet import MIN_WIDTH, sdunet
from nakt_fed.networks.unet import UNet
from nakt_fed.own_code import imported, told
from nakt_fed.recipe import NetworkSpec
from nakt_fed.suggest import suggestion

__all__ = ["NETWORKS", "build_network", "describe", "is_user_factory", "resolve"]

Factory = Callable[..., nn.Module]
OWN: dict[str, Factory] = {"unet": UNet, "attunet": attunet, "sdunet": sdunet}
NETWORKS: dict[str, Factory] = {
    **OWN,
    "deeplabv3plus": partial(smp.smp_network, "deeplabv3plus"),
    "panoptic_fpn": partial(smp.smp_network, "fpn"),
}
DEFAULT_WIDTH = 64


def build_network(spec: NetworkSpec) -> nn.Module:
    """A new network with random weights from torch's generator: the same seed gives the same weights.

    Raises:
        StudyError: see `resolve`; also an encoder that the architecture cannot use, and a user's factory that cannot
            be imported or called, or makes something else.
    """
    spec = resolve(spec)
    if is_user_factory(spec.network):
        return _call_user_factory(spec.network, {"in_channels": 1, "classes": spec.classes, **_settings(spec)})
    factory = NETWORKS.get(spec.network) or partial(smp.smp_network, spec.network.removeprefix("smp:"))
    return factory(in_channels=1, classes=spec.classes, **_settings(spec))


def resolve(spec: NetworkSpec) -> NetworkSpec:
    """Only the architecture, its name as we spell it and its defaults filled in: equal results mean equal networks.

    Builds nothing and, for a user's `module:factory`, imports nothing.

    Raises:
        StudyError: unknown network or encoder (the nearest names are given), or a setting that does not fit it.
    """
    if is_user_factory(spec.network):
        return spec.spec()
    name = _known_name(spec.network)
    if name in OWN:
        return NetworkSpec(network=name, width=_checked_width(name, spec), classes=spec.classes)
    if spec.width is not None:
        raise StudyError(
            f"network {name!r} takes its size from its encoder, got width = {spec.width}; "
            "remove width and choose an encoder instead"
        )
    encoder = spec.encoder or smp.DEFAULT_ENCODERS.get(name, smp.DEFAULT_ENCODER)
    return NetworkSpec(network=name, encoder=smp.checked_encoder(encoder), classes=spec.classes)


def is_user_factory(network: str) -> bool:
    """Whether the name is `module:factory`, code that a user brings along; "smp:" is the library's prefix."""
    return ":" in network and not network.lower().startswith("smp:")


def describe(spec: NetworkSpec) -> str:
    """For messages and reports.

    >>> describe(NetworkSpec(network="unet", width=16))
    'unet (width 16)'
    """
    settings = ", ".join(f"{key} {value}" for key, value in _settings(spec).items())
    return f"{spec.network} ({settings})" if settings else spec.network


def _settings(spec: NetworkSpec) -> dict[str, Any]:
    return {key: value for key in ("width", "encoder") if (value := getattr(spec, key)) is not None}


def _checked_width(name: str, spec: NetworkSpec) -> int:
    if spec.encoder is not None:
        raise StudyError(
            f"network {name!r} has no encoder to choose, got encoder = {spec.encoder!r}; "
            "remove it, or take a network that has one, such as 'deeplabv3plus' or 'smp:unet'"
        )
    width = spec.width or DEFAULT_WIDTH
    if name == "sdunet" and width < MIN_WIDTH:
        raise StudyError(f"network 'sdunet' needs width = {MIN_WIDTH} or more, got {width}; raise it")
    return width


def _known_name(network: str) -> str:
    name = network.lower()
    if name in NETWORKS:
        return name
    short = name.removeprefix("smp:")
    if short == "fpn":
        return "panoptic_fpn"
    if short in smp.architectures():
        return name if short in OWN else short  # smp's own "unet" keeps its prefix
    known = sorted({*NETWORKS, *smp.architectures()})
    raise StudyError(
        f"unknown network {network!r}; {suggestion(short, known, most=3, cutoff=0.5)} "
        "(one of your own is written 'module:factory')"
    )


def _call_user_factory(network: str, arguments: dict[str, Any]) -> nn.Module:
    call = f"{network}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
    factory = imported(network, "network")
    try:
        inspect.signature(factory).bind(**arguments)
    except (TypeError, ValueError) as error:
        raise StudyError(f"{call} cannot be called ({error}); let the factory accept these arguments") from error
    try:
        model = factory(**arguments)
    except Exception as error:
        raise StudyError(f"{call} failed: {told(error)}; mend it there") from error
    if not isinstance(model, nn.Module):
        raise StudyError(f"{call} made a {type(model).__name__}; let the factory return a torch.nn.Module")
    return model
