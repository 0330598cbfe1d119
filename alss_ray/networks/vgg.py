"""The target network for CIFAR-10 (Mo et al. 2020, Table S8): VGG-16 with batch normalisation."""

from torch import nn

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
LEAST_SIDE = 32


def vgg16(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """Table S8: images `b x C x 32 x 32` to logits `b x classes`; 14,728,266 parameters for colour and ten classes.

    The table misprints two things: the first row of each later block gives its output channels as input channels
    too (it is 64 to 128, 128 to 256, 256 to 512), and paddings of 0, with which the fifth block would have no pixel
    left; with 1 the blocks end at 16, 8, 4, 2 and 1. Larger images are averaged over what is left of their pixels.
    """
    layers: list[nn.Module] = []
    before = channels
    for block in BLOCKS:
        for width in block:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))
