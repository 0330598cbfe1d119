"""The four networks of the α-GAN (Rosca et al. 2017; Mo et al. 2020, Tables S1-S5), for images of any size.

The tables name 65,536 features at the linear layers: 64 channels at an eighth of the image's side, squared, which is
65,536 for 256 x 256 pixels and 1,024 for CIFAR-10's 32 x 32. So the family is built once, by the image's shape, n and
the number of channels; an image whose sides are no multiples of 8 gets black borders on the way in, which are cut off
on the way out. Table S3 has 'average pooling' in the generator, where an image must grow by 8: it is upsampling.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

WIDTH = 64
SLOPE = 0.2  # of the leaky ReLU; the tables do not state it
HALVINGS = 3
CODE_UNITS = 700


class ResidualBlock(nn.Module):
    """Table S1, added to what comes in: `b x C x H x W` to the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU(SLOPE)]
        self.body = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.body(features)


def padded_sides(image_shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width, each raised to a multiple of 8."""
    height, width = (math.ceil(side / 2**HALVINGS) * 2**HALVINGS for side in image_shape[1:])
    return height, width


class Encoder(nn.Module):
    """Tables S2 and S4: images `b x C x H x W` in [0, 1] to `b x outputs`, codes or the logit of being real."""

    def __init__(self, image_shape: tuple[int, ...], outputs: int, width: int = WIDTH) -> None:
        super().__init__()
        height, across = padded_sides(image_shape)
        self.border = (0, across - image_shape[2], 0, height - image_shape[1])
        self.body = nn.Sequential(
            nn.Conv2d(image_shape[0], width, 5, padding=2),
            nn.AvgPool2d(2),
            nn.ReLU(),
            ResidualBlock(width),
            nn.AvgPool2d(2),
            ResidualBlock(width),
            nn.AvgPool2d(2),
            ResidualBlock(width),
            nn.Flatten(),
            nn.Linear(width * height * across // 4**HALVINGS, outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.body(2 * functional.pad(images, self.border) - 1)


class Generator(nn.Module):
    """Table S3: points `b x n` to images `b x C x H x W` in [0, 1], the hyperbolic tangent's range moved there."""

    def __init__(self, image_shape: tuple[int, ...], latent_dim: int, width: int = WIDTH) -> None:
        super().__init__()
        self.image_shape = image_shape
        small = [side // 2**HALVINGS for side in padded_sides(image_shape)]
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, width * math.prod(small)),
            nn.ReLU(),
            nn.Unflatten(1, (width, *small)),
            ResidualBlock(width),
        ]
        for _ in range(HALVINGS):
            layers += [nn.Upsample(scale_factor=2), ResidualBlock(width)]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, image_shape[0], 1), nn.Tanh())

    def forward(self, points: Tensor) -> Tensor:
        _, height, width = self.image_shape
        return 0.5 + 0.5 * self.body(points)[:, :, :height, :width]


class CodeDiscriminator(nn.Sequential):
    """Table S5: points `b x n` to the logit `b x 1` of coming from N(0, I). The table's sigmoid is in the loss."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(
            nn.Linear(latent_dim, CODE_UNITS),
            nn.LeakyReLU(SLOPE),
            nn.Linear(CODE_UNITS, CODE_UNITS),
            nn.LeakyReLU(SLOPE),
            nn.Linear(CODE_UNITS, 1),
        )
