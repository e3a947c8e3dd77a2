"""U-Net (Ronneberger et al., arXiv 1505.04597), and the three parts in which its relatives differ from it."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

LEVELS = 5


def conv_bn_relu(channels_in: int, channels_out: int, dilation: int = 1) -> nn.Sequential:
    """3×3 convolution that keeps height and width, batch normalisation, ReLU: (B, in, H, W) -> (B, out, H, W)."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=dilation, dilation=dilation),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def double_conv(channels_in: int, channels_out: int) -> nn.Sequential:
    """U-Net's operation: two convolutions at one resolution."""
    return nn.Sequential(conv_bn_relu(channels_in, channels_out), conv_bn_relu(channels_out, channels_out))


def transposed_up(channels_in: int, channels_out: int) -> nn.Module:
    """Learned enlargement: (B, in, H, W) -> (B, out, 2H, 2W)."""
    return nn.ConvTranspose2d(channels_in, channels_out, kernel_size=2, stride=2)


class PlainSkip(nn.Module):
    """U-Net's skip connection: the encoder's features pass as they are, whatever the decoder sees."""

    def forward(self, decoded: Tensor, skipped: Tensor) -> Tensor:
        return skipped


class UNet(nn.Module):
    """Five levels, channels doubling from `width` on the way down; every size halves four times.

    Args:
        in_channels: 1 for gray pictures.
        classes: logits per pixel.
        width: channels of the first level (64 in the paper).
        operation: (in, out) -> what happens at one resolution; keeps height and width.
        enlarge: (in, out) -> what doubles height and width in the decoder.
        gate: (channels) -> module (decoded, skipped) -> what of the skip connection is let through; same shapes.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        width: int = 64,
        *,
        operation: Callable[[int, int], nn.Module] = double_conv,
        enlarge: Callable[[int, int], nn.Module] = transposed_up,
        gate: Callable[[int], nn.Module] = lambda channels: PlainSkip(),
    ) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(LEVELS)]
        upwards = channels[-2::-1]
        self.encode = nn.ModuleList(operation(before, n) for before, n in pairwise([in_channels, *channels]))
        self.enlarge = nn.ModuleList(enlarge(2 * n, n) for n in upwards)
        self.gate = nn.ModuleList(gate(n) for n in upwards)
        self.decode = nn.ModuleList(operation(2 * n, n) for n in upwards)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(width, classes, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) float -> (B, classes, H, W) logits; H and W are multiples of 16."""
        first, *deeper = self.encode
        features = [first(images)]
        for operation in deeper:
            features.append(operation(self.pool(features[-1])))
        decoded = features.pop()
        for enlarge, gate, operation in zip(self.enlarge, self.gate, self.decode, strict=True):
            decoded = enlarge(decoded)
            decoded = operation(torch.cat([gate(decoded, features.pop()), decoded], dim=1))
        return self.head(decoded)
