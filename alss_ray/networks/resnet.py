"""A stronger target network for small images: torchvision's ResNet-18 (He et al. 2016) with another first layer."""

from torch import nn


def resnet18(channels: int = 3, classes: int = 10) -> nn.Module:
    """Images `b x C x H x W` to logits `b x classes`; 11,173,962 parameters for colour and ten classes.

    As is usual for 32 x 32 pixels, a 3 x 3 convolution of stride 1 takes the place of the 7 x 7 one of stride 2, and
    the max pooling behind it goes.
    """
    from torchvision.models import resnet18 as full  # takes a second to import

    network = full(num_classes=classes)
    network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    return network
