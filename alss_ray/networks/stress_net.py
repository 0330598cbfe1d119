"""The target network for IVUS: an image-to-image network (Mo et al. 2020, Table S6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def _down(inward: int, outward: int, pool: bool = True) -> list[nn.Module]:
    block = [nn.Conv2d(inward, outward, 2), nn.BatchNorm2d(outward), nn.ReLU()]
    return [*block, nn.MaxPool2d(2)] if pool else block


def _up(inward: int, outward: int) -> list[nn.Module]:
    return [
        nn.ConvTranspose2d(inward, outward, 2),
        nn.BatchNorm2d(outward),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
    ]


class StressNet(nn.Module):
    """Table S6: masks `b x 1 x 64 x 64` in [0, 1] to maps of the same shape in (0, 1).

    The table's layers give 63 x 63 (64, 31, 15, 7, 3, 2 and back over 3, 7, 15, 31, 63); bilinear interpolation,
    which keeps the image's borders in place, brings that to 64 x 64.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_down(1, 8),
            *_down(8, 16),
            *_down(16, 32),
            *_down(32, 64),
            *_down(64, 64, pool=False),
            *_up(64, 64),
            *_up(64, 32),
            *_up(32, 16),
            *_up(16, 8),
            nn.ConvTranspose2d(8, 1, 2),
            nn.Sigmoid(),
        )
        # Starts the sigmoid near the maps' mean, which most pixels are below, instead of at one half.
        nn.init.constant_(self.layers[-2].bias, -3.5)  # type: ignore[arg-type]
        # Twice as fast on CPUs for these few channels.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layers(images.contiguous(memory_format=torch.channels_last))
        return functional.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)
