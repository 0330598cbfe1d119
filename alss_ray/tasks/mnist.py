"""MNIST as in the paper: 60,000 training and 10,000 test images, Table S7's network, Adam, cross entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from alss_ray.networks.lenet import lenet
from alss_ray.oracles.dataset import DatasetOracle
from alss_ray.tasks.base import TaskData
from alss_ray.tasks.public_set import PublicSet

FOLDER = "MNIST/raw"
FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


@dataclass(frozen=True)
class Mnist(PublicSet):
    """Handwritten digits, 28x28 (LeCun et al. 1998).

    A round of 500 is not stated in the paper, but its 'Rand' row fits 500 labels a round.
    """

    name: ClassVar[str] = "mnist"
    title: ClassVar[str] = "MNIST"

    def load(self) -> TaskData:
        from torchvision.datasets import MNIST

        train, test = self.reading(
            self.data_dir / FOLDER,
            FILES,
            lambda download: [MNIST(self.data_dir, train=part, download=download) for part in (True, False)],
        )
        images, test_images = train.data.unsqueeze(1), test.data.unsqueeze(1)
        return self.with_oracle(TaskData(images, test_images, test.targets, DatasetOracle(train.targets)))

    def network(self) -> nn.Module:
        return lenet()
