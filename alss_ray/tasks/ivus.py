"""IVUS: vessel-wall masks in, structural-stress maps out, labelled by a finite-element solver (Mo et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from alss_ray.config import UsageError, at_least, local, positive
from alss_ray.networks.stress_net import StressNet
from alss_ray.oracles.base import TEST, ImageBatch
from alss_ray.oracles.cache import remembering
from alss_ray.oracles.people import Maps
from alss_ray.oracles.stress import StressOracle
from alss_ray.tasks.base import TaskData
from alss_ray.tasks.masks import read_masks
from alss_ray.tasks.people import Annotated
from alss_ray.tasks.phantoms import make_phantoms

SIDE = 64
POOL_SHARE = 0.825  # 990 of the paper's 1,200 slices; the other 210 are the test set
STRESS_SCALE = 200.0  # kPa: the stress that the network calls 1; higher ones are cut


@dataclass(frozen=True)
class Ivus(Annotated):
    """Stress maps of vessel walls: 1,200 phantom slices in 40 pullbacks, or a folder of your own masks.

    Whole vessels are held out for testing: neighbouring slices are near-duplicates, so a split by slice would leak.
    """

    masks: Path | None = local(default=None)
    """Folder of your own wall masks (PNG, TIFF, NPY, NPZ); phantoms are made unless given."""
    wall_label: int | None = None
    """Label of the wall where your masks are label maps; otherwise they are binary or grey."""
    spacing: float | None = None
    """Side of a pixel of your own masks, mm."""
    independent_slices: bool = False
    """Phantoms of independent vessels instead of pullbacks."""
    pressure: float = 16.0
    """Blood pressure at systole, kPa."""
    oracle: str = "stress"
    """Who labels: alss_ray's finite-element solver (stress); people, by way of a folder; or your own oracle as
    package.module:Name."""
    phantom_seed: int = 0
    """Seed of the phantoms, the same for all experiments that are compared."""

    own_oracle: ClassVar[str] = "stress"
    name: ClassVar[str] = "ivus"
    metric: ClassVar[str] = "MSE"
    higher_is_better: ClassVar[bool] = False
    extras: ClassVar[Mapping[str, str]] = {
        "rmse_kpa": "root mean squared error in the wall, kPa, mean over the masks"
    }
    map_unit: ClassVar[tuple[float, str] | None] = (STRESS_SCALE, "kPa")
    defaults: ClassVar[Mapping[str, Any]] = {
        "round_size": 20,
        "label_budget": 200,
        "validation_share": 0.3,
        "iterations": 100,
        "batch_size": 20,
        "learning_rate": 5e-3,
        "evaluate_every": 50,
        "generator_iterations": 800,
        "generator_batch_size": 32,
        "generator_learning_rate": 3e-3,
        "alpha_gan": {"generator_iterations": 5000, "generator_learning_rate": 2e-4},
        "strategy": "si",
        "search": {"trials": 5, "label_budget": 60},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("ivus", pressure=self.pressure)
        at_least("ivus", 0, phantom_seed=self.phantom_seed)
        if self.masks is not None and self.spacing is None:
            raise UsageError("ivus: your own masks need --spacing, the side of one of their pixels in mm.")
        for name in ("spacing", "wall_label"):
            if getattr(self, name) is not None and self.masks is None:
                option = name.replace("_", "-")
                raise UsageError(
                    f"ivus: --{option} belongs to your own masks; give their folder with --masks."
                )
        if self.spacing is not None:
            positive("ivus", spacing=self.spacing)

    def load(self) -> TaskData:
        """The masks, split by vessel, and the test set with its maps; those are bought once and kept."""
        images, group, spacing = self._phantoms() if self.masks is None else self._own()
        stress = self.oracle == "stress"
        maps, question = Maps((SIDE, SIDE), "kPa"), "What is the stress in this wall?"
        oracle = StressOracle(spacing, self.pressure) if stress else self.another_oracle(maps, question)
        # At least the first vessel is left to the pool.
        test = torch.from_numpy(group >= max(1, np.quantile(group, POOL_SHARE, method="higher")))
        folder = self.label_folder
        batch = ImageBatch(images[test], test.nonzero()[:, 0], "the test set", TEST)
        answer = remembering(oracle, folder).label(batch)
        good = torch.tensor([k not in answer.refusals for k in range(int(test.sum()))])
        if not good.any():
            reasons = ", ".join(sorted(set(answer.refusals.values())))
            raise UsageError(
                f"The oracle refuses all {len(good)} test masks ({reasons}); look at --spacing and --wall-label."
            )
        targets = self.encode(answer.values[good])
        return TaskData(images[~test], images[test][good], targets, oracle, folder, whole_pool=stress)

    def _phantoms(self) -> tuple[Tensor, np.ndarray, float]:
        made = make_phantoms(side=SIDE, seed=self.phantom_seed, independent=self.independent_slices)
        return torch.from_numpy(made.images), made.vessel, made.spacing

    def _own(self) -> tuple[Tensor, np.ndarray, float]:
        """A folder's masks, their vessels in one fixed random order."""
        assert self.masks is not None
        assert self.spacing is not None
        read = read_masks(self.masks.expanduser(), SIDE, self.spacing, self.wall_label)
        names = sorted(set(read.groups))
        if len(names) < 2:
            raise UsageError(
                f"{self.masks} holds one vessel only; at least two are needed, one of them for testing."
            )
        place = dict(zip(names, np.random.default_rng(0).permutation(len(names)), strict=True))
        return torch.from_numpy(read.images), np.array([place[name] for name in read.groups]), read.spacing

    def network(self) -> nn.Module:
        return StressNet()

    def encode(self, values: Tensor) -> Tensor:
        """Stress in kPa as the network's targets: clip(stress, 0, 200) / 200."""
        return values.clamp(0, STRESS_SCALE) / STRESS_SCALE

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error over the pixels of each map `b x 1 x H x W`."""
        return (outputs - targets).square().mean((1, 2, 3))

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The same: the paper's metric, on normalised maps (multiply by 1000 for the usual table)."""
        return self.loss(outputs, targets)

    def guess(self, images: Tensor, targets: Tensor) -> float:
        """The error of the wall's mask times the mean stress in the wall: knowing the shape, nothing of mechanics."""
        wall = (images >= 128).float()
        mean = (targets * wall).sum() / wall.sum()
        return self.score(wall * mean, targets).mean().item()

    def extra_scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Root mean squared error inside the wall, kPa, for each map."""
        wall = targets > 0
        squares = ((outputs - targets).square() * wall).sum((1, 2, 3)) / wall.sum((1, 2, 3)).clamp(min=1)
        return {"rmse_kpa": STRESS_SCALE * squares.sqrt()}
