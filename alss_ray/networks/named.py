"""Target networks for classes by name, for tasks that leave the choice to the user."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from alss_ray.config import UsageError, imported
from alss_ray.networks import lenet, vgg
from alss_ray.networks.normalise import Normalise
from alss_ray.networks.resnet import resnet18

LEAST_SIDES = {"lenet": lenet.LEAST_SIDE, "vgg16": vgg.LEAST_SIDE, "resnet18": 8}
"""The shipped networks, and the smallest images that they take."""


def check(name: str, side: int) -> None:
    """Raise UsageError unless there is such a network, and it takes images of this side."""
    if ":" in name:
        imported("architecture", name)
        return
    if name not in LEAST_SIDES:
        known = ", ".join(LEAST_SIDES)
        raise UsageError(
            f"There is no architecture {name!r}; take {known}, or your own network as package.module:Name."
        )
    if side < LEAST_SIDES[name]:
        raise UsageError(
            f"The architecture {name} needs images of {LEAST_SIDES[name]} pixels or more, the side is {side}; "
            "raise --side or take another --architecture."
        )


def build(
    name: str,
    channels: int,
    classes: int,
    side: int,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
) -> nn.Module:
    """A fresh network from images `b x C x side x side` in [0, 1] to logits `b x classes`.

    The shipped ones see them normalised, to [-1, 1] unless mean and deviation of each channel are given. The user's
    own is called with the numbers of channels and of classes, and normalises by itself.
    """
    if ":" in name:
        return imported("architecture", name)(channels, classes)
    half = [0.5] * channels
    return nn.Sequential(
        Normalise(mean or half, deviation or half),
        {
            "lenet": lambda: lenet.lenet(channels, classes, side),
            "vgg16": lambda: vgg.vgg16(channels, classes),
            "resnet18": lambda: resnet18(channels, classes),
        }[name](),
    )
