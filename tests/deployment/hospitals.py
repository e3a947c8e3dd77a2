"""A hospital on disk: its kit, a teacher that was never trained, some private pictures."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from nakt_fed.checkpoint import save_checkpoint
from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.recipe import NetworkSpec
from nakt_fed.teacher import fresh_network

SIZE, WIDTH = 32, 4


def settle(site: Path, seed: int, raw: dict[str, Any]) -> None:
    """Into the hospital's own folder a teacher that was never trained; twice: quick for the oracle. `raw`: its site file."""
    network = lively(fresh_network(NetworkSpec(network="unet", width=WIDTH), seed))
    for stem, kind in (("quick", "unet"), ("teacher", "slow_teacher:unet")):
        save_checkpoint(
            site / f"{stem}.safetensors",
            network,
            NetworkSpec(network=kind, width=WIDTH),
            n_images=5,
            image_size=SIZE,
        )
    write_folder(synthetic_set(4, SIZE, seed=100 + seed), site / "private")
    raw["site"]["threads"] = 1
    raw["teacher"] = {"network": "slow_teacher:unet", "width": WIDTH, "checkpoint": "teacher.safetensors"}
    raw["private"] = {"images": "private/images", "masks": "private/masks", "test_share": 0.5}


def lively(network: nn.Module) -> nn.Module:
    """Without training a network says nearly the same everywhere; stretched, its masks differ from pixel to pixel."""
    pictures = torch.from_numpy(synthetic_set(4, SIZE, seed=0).images)[:, None] / 255
    *_, weight, bias = network.eval().parameters()
    with torch.no_grad():
        logits = network(pictures) - bias
        weight.mul_(2 / logits.std())
        bias.copy_(-2 * logits.mean() / logits.std())
    return network
