"""SDU-Net (Wang et al., arXiv 2004.03466): a U-Net of stacked dilated convolutions about 40 % of its size."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from nakt_fed.networks.unet import UNet, conv_bn_relu

RATES = (1, 3, 6, 9, 12)
MIN_WIDTH = 8  # five convolutions share it


def shares(channels: int) -> list[int]:
    """How many of an operation's output channels each convolution makes: n/2, n/4, n/8, n/16, n/16.

    Below 16 channels each dilated one still makes a channel; the first makes what remains, so the sum stays n (n ≥ 5).

    >>> shares(64), shares(8)
    ([32, 16, 8, 4, 4], [3, 2, 1, 1, 1])
    """
    dilated = [max(1, channels // part) for part in (4, 8, 16, 16)]
    return [channels - sum(dilated), *dilated]


class StackedDilation(nn.Module):
    """A 3×3 convolution, then dilated ones of rates 3, 6, 9, 12, each fed by the one before; all five concatenated."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        steps = zip(pairwise([channels_in, *shares(channels_out)]), RATES, strict=True)
        self.convs = nn.ModuleList(conv_bn_relu(before, n, dilation=rate) for (before, n), rate in steps)

    def forward(self, features: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        outputs = []
        for conv in self.convs:
            features = conv(features)
            outputs.append(features)
        return torch.cat(outputs, dim=1)


def sdunet(in_channels: int = 1, classes: int = 1, width: int = 64) -> UNet:
    """(B, in_channels, H, W) float -> (B, classes, H, W) logits; width is at least `MIN_WIDTH`."""
    assert width >= MIN_WIDTH, width
    return UNet(in_channels, classes, width, operation=StackedDilation)
