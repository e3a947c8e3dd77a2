"""Batches of pictures and masks, in an order that the seed decides, from memory or from a zarr array."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nakt_fed.data.folders import PictureSet
from nakt_fed.losses import UNKNOWN


def batches(count: int, batch_size: int, seed: int, rank: int = 0, size: int = 1) -> list[NDArray[np.int64]]:
    """The indices of each batch of one epoch for worker `rank` of `size`.

    All pictures once, in batches of nearly the same size (a last batch of one picture would break batch normalisation).
    Every worker gets the same number of pictures per batch: the first ones are repeated where it does not divide.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).numpy()
    most = count if batch_size == 1 else count // 2
    whole = np.array_split(order, max(1, min(round(count / batch_size), most)))
    return [np.resize(batch, -(-len(batch) // size) * size)[rank::size] for batch in whole]


class _Batches(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, pictures: PictureSet) -> None:
        self.pictures = pictures

    def __getitem__(self, indices: Any) -> tuple[Tensor, Tensor]:
        images, masks = (_float(take(stack, indices)) for stack in (self.pictures.images, self.pictures.masks))
        if self.pictures.known is not None:
            masks[torch.from_numpy(~self.pictures.known[indices])] = UNKNOWN
        return images, masks


def take(array: Any, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """array[indices] for NumPy and zarr alike."""
    return array[indices] if isinstance(array, np.ndarray) else array.oindex[indices]


def _float(stack: NDArray[np.uint8]) -> Tensor:
    planes = torch.from_numpy(np.ascontiguousarray(stack))
    return (planes.unsqueeze(1) if planes.ndim == 3 else planes).float().div_(255)


def feed(pictures: PictureSet, order: list[NDArray[np.int64]], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """(images, masks) float (B, 1, H, W) and (B, C, H, W) in 0..1 on `device`; planes that are not known are `UNKNOWN`.

    Beside a GPU, worker processes read ahead into pinned memory.
    """
    gpu = device.type == "cuda"
    loader = DataLoader(_Batches(pictures), sampler=order, batch_size=None, pin_memory=gpu, num_workers=4 if gpu else 0)
    for images, masks in loader:
        yield images.to(device, non_blocking=True), masks.to(device, non_blocking=True)
