"""The embedded task: the 1,797 handwritten digits of 8x8 pixels that scikit-learn ships."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from alss_ray import rng
from alss_ray.oracles.dataset import DatasetOracle
from alss_ray.tasks.base import Classification, TaskData, to_bytes
from alss_ray.tasks.people import Annotated

TEST_SIZE = 450


@dataclass(frozen=True)
class Digits(Annotated, Classification):
    """Handwritten digits, 8x8 (Alpaydin and Kaynak 1998; UCI, by way of scikit-learn): 1,347 in D, 450 for testing."""

    name: ClassVar[str] = "digits"
    defaults: ClassVar[Mapping[str, Any]] = {
        "round_size": 20,
        "label_budget": 300,
        "validation_share": 0.5,
        "iterations": 100,
        "evaluate_every": 25,
        "generator_iterations": 1500,
    }

    def load(self) -> TaskData:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = to_bytes(torch.from_numpy(digits.images / 16.0)).unsqueeze(1)
        targets = torch.from_numpy(digits.target)
        # The test set is one fixed draw, whatever the experiment's seed.
        order = torch.randperm(len(images), generator=rng.stream(0, "digits", "split"))
        test, pool = order[:TEST_SIZE], order[TEST_SIZE:]
        data = TaskData(images[pool], images[test], targets[test], DatasetOracle(targets[pool]))
        return self.with_oracle(data)

    def network(self) -> nn.Module:
        """Two convolutions and two linear layers: Table S7 cut down to 8x8 images, 38,282 parameters."""
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(512, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )
