"""Functions of a gray level as tables of 256."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nakt_fed.weightings.scheme import Masks

Number = TypeVar("Number", bound=np.generic)

_P = np.clip(np.arange(256) / 255, 1 / 1020, 1019 / 1020)
LOGITS: NDArray[np.float64] = np.log(_P / (1 - _P))
"""logit(q / 255); a quarter of a gray level inside at both ends, where it would be infinite."""


def looked_up(table: NDArray[Number], masks: Masks) -> NDArray[Number]:
    """table[masks], several times as fast (mode "clip" needs no check, and widens blocks of indices only)."""
    found = np.empty(masks.shape, table.dtype)
    return np.take(table, masks, out=found, mode="clip")
