"""MNIST as in the paper: 60,000 training and 10,000 test images, Table S7's network, Adam, cross entropy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from alss_ray.config import UsageError, local
from alss_ray.networks.lenet import lenet
from alss_ray.oracles.dataset import DatasetOracle
from alss_ray.tasks.base import Classification, TaskData
from alss_ray.tasks.people import Annotated

FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


@dataclass(frozen=True)
class Mnist(Annotated, Classification):
    """Handwritten digits, 28x28 (LeCun et al. 1998).

    A round of 500 is not stated in the paper, but its 'Rand' row fits 500 labels a round.
    """

    data_dir: Path = local(default=Path("data"))
    """Folder that holds MNIST/raw/*-ubyte, as torchvision lays it out."""
    download: bool = local(default=False)
    """Let torchvision fetch the files that are missing."""

    name: ClassVar[str] = "mnist"
    defaults: ClassVar[Mapping[str, Any]] = {
        "round_size": 500,
        "label_budget": 5000,
        "validation_share": 0.2,
        "iterations": 150,
        "evaluate_every": 50,
        "generator_iterations": 10_000,
    }

    def load(self) -> TaskData:
        from torchvision.datasets import MNIST

        folder = self.data_dir / "MNIST" / "raw"
        missing = [name for name in FILES if not (folder / name).exists()]
        if missing and not self.download:
            raise UsageError(
                f"MNIST is not in {self.data_dir}: looked for {', '.join(missing)} in {folder}; "
                "give the folder with --data-dir, or add --download to let torchvision fetch them."
            )
        try:
            train, test = (MNIST(self.data_dir, train=part, download=self.download) for part in (True, False))
        except (RuntimeError, ValueError, AssertionError, OSError) as error:
            raise UsageError(
                f"MNIST in {folder} cannot be read ({error}); remove its files and fetch them again with --download."
            ) from error
        images, test_images = train.data.unsqueeze(1), test.data.unsqueeze(1)
        return self.with_oracle(TaskData(images, test_images, test.targets, DatasetOracle(train.targets)))

    def network(self) -> nn.Module:
        return lenet()
