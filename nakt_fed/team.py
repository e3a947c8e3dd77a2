"""What several workers of one training need to know of each other; nothing here knows who started them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Team:
    """Worker `rank` of `size`; `wrap` makes the model one whose gradients are averaged over the team (DDP)."""

    rank: int = 0
    size: int = 1
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model
    device: torch.device | None = None

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def pick_device(self) -> torch.device:
        """The device the team was given, else the GPU where there is one."""
        return self.device or torch.device("cuda" if torch.cuda.is_available() else "cpu")


ALONE = Team()
