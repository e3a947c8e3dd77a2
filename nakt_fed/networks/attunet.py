"""Attention U-Net (Oktay et al., arXiv 1804.03999): a U-Net with additive attention gates on its skips."""

import torch
from torch import Tensor, nn

from nakt_fed.networks.unet import UNet, conv_bn_relu


def nearest_up(channels_in: int, channels_out: int) -> nn.Sequential:
    """Enlargement by repeating pixels, then a convolution: (B, in, H, W) -> (B, out, 2H, 2W)."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv_bn_relu(channels_in, channels_out))


class AttentionGate(nn.Module):
    """Additive attention (Oktay, Eq. 1 and 2): α = σ(ψ(ReLU(W_g g + W_x x))), with F_int = half the channels.

    The gating signal g is the enlarged decoder's, so g and x have one size and nothing is resampled.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.w_g = nn.Sequential(nn.Conv2d(channels, inner, kernel_size=1), nn.BatchNorm2d(inner))
        self.w_x = nn.Sequential(nn.Conv2d(channels, inner, kernel_size=1), nn.BatchNorm2d(inner))
        self.psi = nn.Sequential(nn.Conv2d(inner, 1, kernel_size=1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, decoded: Tensor, skipped: Tensor) -> Tensor:
        """Both (B, channels, H, W) -> the skipped features, each pixel scaled by its α in 0..1."""
        return skipped * self.psi(torch.relu(self.w_g(decoded) + self.w_x(skipped)))


def attunet(in_channels: int = 1, classes: int = 1, width: int = 64) -> UNet:
    """(B, in_channels, H, W) float -> (B, classes, H, W) logits."""
    return UNet(in_channels, classes, width, enlarge=nearest_up, gate=AttentionGate)
