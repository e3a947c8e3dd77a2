"""Architectures and encoders of segmentation_models_pytorch by name, with random weights: nothing is downloaded.

The library takes seconds to import, so it is imported only when a study uses it.
"""

import difflib

from torch import nn

from nakt_fed.errors import StudyError

DEFAULT_ENCODER = "resnet18"
DEFAULT_ENCODERS = {"dpt": "tu-vit_tiny_patch16_224"}  # DPT is made for vision transformers


def architectures() -> list[str]:
    """Names in lower case, such as "unetplusplus"."""
    import segmentation_models_pytorch as smp

    return sorted(smp.MODEL_ARCHITECTURES_MAPPING)


def checked_encoder(encoder: str) -> str:
    """The same name, when it is one of smp's encoders, or "tu-" and one of timm's.

    Raises:
        StudyError: any other name, with the nearest known ones. That includes the addresses that timm would fetch from
            ("hf_hub:", "local-dir:").
    """
    import timm
    from segmentation_models_pytorch.encoders import get_encoder_names

    known = get_encoder_names()
    if encoder in known or (encoder.startswith("tu-") and timm.is_model(encoder[3:])):
        return encoder
    candidates = [*known, *(f"tu-{name}" for name in timm.list_models())]
    # "timm-" is the old prefix of "tu-"; without this, the prefix would count as three differences
    near = difflib.get_close_matches(encoder.replace("timm-", "tu-"), candidates, n=4) or [DEFAULT_ENCODER]
    raise StudyError(
        f"unknown encoder {encoder!r}; near it: {', '.join(near)}. "
        "Take an encoder of segmentation_models_pytorch, or 'tu-' and the name of a timm model"
    )


def smp_network(architecture: str, in_channels: int = 1, classes: int = 1, encoder: str | None = None) -> nn.Module:
    """(B, in_channels, H, W) float -> (B, classes, H, W) logits.

    Args:
        architecture: one of `architectures()`.
        encoder: see `checked_encoder`; resnet18 without it.

    Raises:
        StudyError: unknown encoder, or one that this architecture cannot use.
    """
    import segmentation_models_pytorch as smp

    encoder = checked_encoder(encoder or DEFAULT_ENCODERS.get(architecture, DEFAULT_ENCODER))
    options = (
        {"dynamic_img_size": True} if architecture == "dpt" else {}
    )  # else timm accepts only the size in the encoder's name
    build = smp.MODEL_ARCHITECTURES_MAPPING[architecture]
    try:
        return build(encoder_name=encoder, encoder_weights=None, in_channels=in_channels, classes=classes, **options)
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        remedy = f"take another encoder, such as {DEFAULT_ENCODERS.get(architecture, DEFAULT_ENCODER)!r}"
        raise StudyError(f"network {architecture!r} cannot use encoder {encoder!r} ({error}); {remedy}") from error
