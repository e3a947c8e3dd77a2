"""A hospital on disk: its kit, a teacher that was never trained, some private pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nakt_fed.checkpoint import save_checkpoint
from nakt_fed.data.folders import PictureSet
from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.recipe import NetworkSpec
from nakt_fed.teacher import fresh_network

SIZE, WIDTH = 32, 4


def settle(site: Path, seed: int, raw: dict[str, Any], classes: Sequence[str] = ()) -> None:
    """Into the hospital's own folder a teacher that was never trained; twice: quick for the oracle. `raw`: its site file.

    One that knows several classes has enough private pictures to judge a student on, and holds no share out.
    """
    several = len(classes) > 1
    spec = NetworkSpec(network="unet", width=WIDTH, classes=len(classes) or 1)
    network = lively(fresh_network(spec, seed))
    for stem, kind in (("quick", "unet"), ("teacher", "slow_teacher:unet")):
        theirs = spec.model_copy(update={"network": kind})
        save_checkpoint(site / f"{stem}.safetensors", network, theirs, n_images=5, image_size=SIZE)
    private = synthetic_set(12 if several else 4, SIZE, seed=100 + seed)
    write_folder(private, site / "private")
    write_folder(PictureSet(private.ids, private.images, 255 - private.masks), site / "around")
    raw["site"] |= {"threads": 1, "classes": list(classes)}
    raw["teacher"] = {"network": "slow_teacher:unet", "width": WIDTH, "checkpoint": "teacher.safetensors"}
    raw["private"] = {"images": "private/images", "masks": masks_of(classes)}
    raw["private"] |= {} if several else {"test_share": 0.5}


def masks_of(classes: Sequence[str]) -> Any:
    """Of two classes, the second is what lies around the first."""
    return dict(zip(classes, ("private/masks", "around/masks"), strict=True)) if len(classes) > 1 else "private/masks"


def lively(network: nn.Module) -> nn.Module:
    """Without training a network says nearly the same everywhere; stretched, its masks differ from pixel to pixel."""
    pictures = torch.from_numpy(synthetic_set(4, SIZE, seed=0).images)[:, None] / 255
    *_, weight, bias = network.eval().parameters()
    with torch.no_grad():
        logits = network(pictures) - bias[:, None, None]
        spread, middle = logits.std(dim=(0, 2, 3)), logits.mean(dim=(0, 2, 3))
        weight.mul_((2 / spread)[:, None, None, None])
        bias.copy_(-2 * middle / spread)
    return network
