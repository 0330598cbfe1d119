"""CIFAR-10 as in the paper: 50,000 training and 10,000 test images, Table S8's network, Adam, cross entropy."""

from __future__ import annotations

import hashlib
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from alss_ray.networks import named
from alss_ray.networks.normalise import CropAndFlip
from alss_ray.oracles.dataset import DatasetOracle
from alss_ray.tasks.base import TaskData
from alss_ray.tasks.public_set import PublicSet

FOLDER = "cifar-10-batches-py"
SHAPE = (3, 32, 32)
MEAN = (0.4914, 0.4822, 0.4465)
DEVIATION = (0.2470, 0.2435, 0.2616)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Cifar10(PublicSet):
    """Photographs of ten classes, colour, 32x32 (Krizhevsky 2009): 50,000 in D, 10,000 for testing.

    The shipped networks see each channel less its mean (0.4914, 0.4822, 0.4465) and divided by its standard deviation
    (0.2470, 0.2435, 0.2616), both over the training images.

    The files are Python pickles, which could run anything. Here none is unpickled: their MD5 must be that of the
    published ones, and pixels and labels are picked out of the list of the pickle's operations.
    """

    architecture: str = "vgg16"
    """The target network: vgg16 (Table S8), resnet18, lenet, or your own class as package.module:Name, which is called
    with the numbers of channels and of classes and sees images in [0, 1]."""
    augment: bool = False
    """Train on random crops of the images with 4 black pixels around, half of them mirrored; the paper does not."""

    name: ClassVar[str] = "cifar10"
    title: ClassVar[str] = "CIFAR-10"

    def __post_init__(self) -> None:
        super().__post_init__()
        named.check(self.architecture, SHAPE[-1])

    def load(self) -> TaskData:
        from torchvision.datasets import CIFAR10
        from torchvision.datasets.utils import download_and_extract_archive

        folder = self.data_dir / FOLDER
        parts: dict[str, str] = dict([*CIFAR10.train_list, *CIFAR10.test_list])

        def read(download: bool) -> list[tuple[Tensor, Tensor]]:
            if download:
                download_and_extract_archive(
                    CIFAR10.url, str(self.data_dir), filename=CIFAR10.filename, md5=CIFAR10.tgz_md5
                )
            return [_batch(folder / name, md5) for name, md5 in parts.items()]

        *train, test = self.reading(folder, parts, read)
        images, targets = (torch.cat(part) for part in zip(*train, strict=True))
        return self.with_oracle(TaskData(images, *test, DatasetOracle(targets), classes=CLASSES))

    def network(self) -> nn.Module:
        network = named.build(self.architecture, SHAPE[0], len(CLASSES), SHAPE[-1], MEAN, DEVIATION)
        return nn.Sequential(CropAndFlip(), network) if self.augment else network


def _batch(path: Path, md5: str) -> tuple[Tensor, Tensor]:
    """Images uint8 `10,000 x 3 x 32 x 32` and classes int64 `10,000` of one file.

    Raises:
        ValueError: it is not the published file.
    """
    content = path.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise ValueError(f"{path.name} is not the published file: its MD5 differs")
    key, labels, pixels = "", [], ""
    for operation, value, _ in pickletools.genops(content):
        if operation.name == "SHORT_BINSTRING" and value in ("labels", "data", "filenames"):
            key = str(value)
        elif key == "labels" and operation.name == "BININT1":
            labels.append(value)
        elif key == "data" and operation.name == "BINSTRING":
            pixels = str(value)
    return torch.frombuffer(bytearray(pixels, "latin-1"), dtype=torch.uint8).view(-1, *SHAPE), torch.tensor(
        labels
    )
