"""The ordinary augmentation of a training batch (paper A.3), on whatever device the batch lies.

The ranges are those of `nakt_fed.views`; unlike a view's pixels, these may differ in the last bit between machines.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nakt_fed.views import CONTRAST, DEGREES, GAMMA, KEPT

Kind = Literal["paper", "flip", "none"]


class Draws(NamedTuple):
    """What is drawn for a batch; (B,) on the CPU, so that every device gets the same."""

    kept_rows: Tensor  # share of the height
    kept_columns: Tensor  # share of the width
    row_position: Tensor  # 0..1: how much of what is cut away lies above
    column_position: Tensor  # 0..1: how much of what is cut away lies to the left
    flip: Tensor  # bool
    radians: Tensor  # counter-clockwise
    gamma: Tensor
    contrast: Tensor


def augment(images: Tensor, masks: Tensor, kind: Kind, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A new batch that shows the same in another way.

    Args:
        images: (B, 1, H, W) float in 0..1.
        masks: (B, C, H, W) float in 0..1; they get the images' geometry, and soft masks stay soft.
        kind: "paper" crops, flips, rotates and changes gamma and contrast; "flip" only flips; "none" changes nothing.
        generator: on the CPU; the same state gives the same augmentation on every device.

    Returns:
        Images and masks of the same shapes, types and device. What comes from outside a picture is 0.
    """
    if kind == "none":
        return images, masks
    if kind == "flip":
        turned = torch.rand(len(images), generator=generator) < 0.5
        return flip(images, turned), flip(masks, turned)
    draws = draw(len(images), generator)
    moved = geometry(torch.cat([photometry(images, draws), masks.to(images)], dim=1), draws)
    return moved[:, :1], moved[:, 1:].to(masks.dtype)


def draw(batch: int, generator: torch.Generator) -> Draws:
    """The parameters of `batch` pictures, uniform in the paper's ranges."""
    rows, columns, above, left, flipped, angle, gamma, contrast = torch.rand(8, batch, generator=generator)
    return Draws(
        kept_rows=_scaled(rows, KEPT),
        kept_columns=_scaled(columns, KEPT),
        row_position=above,
        column_position=left,
        flip=flipped < 0.5,
        radians=_scaled(angle, (-math.radians(DEGREES), math.radians(DEGREES))),
        gamma=_scaled(gamma, GAMMA),
        contrast=_scaled(contrast, CONTRAST),
    )


def _scaled(uniform: Tensor, bounds: tuple[float, float]) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * uniform


def flip(planes: Tensor, turned: Tensor) -> Tensor:
    """Mirror left and right where `turned` (B,) says so; planes (B, C, H, W)."""
    return torch.where(turned.to(planes.device)[:, None, None, None], planes.flip(-1), planes)


def photometry(images: Tensor, draws: Draws) -> Tensor:
    """Gamma, then contrast around each picture's mean gray; (B, 1, H, W) in 0..1 stays in 0..1."""
    gamma, contrast = (factor.to(images)[:, None, None, None] for factor in (draws.gamma, draws.contrast))
    images = images**gamma
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + contrast * (images - mean)).clamp(0, 1)


def geometry(planes: Tensor, draws: Draws) -> Tensor:
    """Crop, flip and rotation in one bilinear sampling; planes (B, C, H, W), one geometry for all C of a picture."""
    theta = _inverse_map(draws, *planes.shape[-2:]).to(planes)
    grid = F.affine_grid(theta, list(planes.shape), align_corners=False)
    return F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _inverse_map(draws: Draws, height: int, width: int) -> Tensor:
    """(B, 2, 3): output to source in torch's coordinates (−1..1 from edge to edge). Undoes rotation, flip and crop."""
    cosine, sine = torch.cos(draws.radians), torch.sin(draws.radians)
    across = torch.where(draws.flip, -draws.kept_columns, draws.kept_columns)
    x = [across * cosine, -across * sine * height / width, _centre(draws.kept_columns, draws.column_position)]
    y = [
        draws.kept_rows * sine * width / height,
        draws.kept_rows * cosine,
        _centre(draws.kept_rows, draws.row_position),
    ]
    return torch.stack([torch.stack(x, dim=1), torch.stack(y, dim=1)], dim=1)


def _centre(kept: Tensor, position: Tensor) -> Tensor:
    """Middle of the kept part in −1..1."""
    return (1 - kept) * (2 * position - 1)
