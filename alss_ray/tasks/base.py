"""The contract of a task: what is learnt, from which images, judged how."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from alss_ray.oracles.base import Oracle
from alss_ray.places import Place

PIXELS = 2**22  # of the images that a network sees at once, out of training


@dataclass(frozen=True)
class TaskData:
    """A task's images and the oracle that labels them; all tensors lie on the CPU."""

    images: Tensor
    """uint8 `N x C x H x W`: D, unlabelled."""
    test_images: Tensor
    """uint8 `M x C x H x W`."""
    test_targets: Tensor
    """`M x ...`: class indices (int64) or maps (float32)."""
    oracle: Oracle
    label_folder: Path | Place | None = None
    """Where bought labels are kept; None where the oracle only reads labels that are stored already."""
    whole_pool: bool = False
    """Whether every label of D may be bought for a reference (alss_ray/reference.py): where that takes a minute."""
    names: tuple[str, ...] = ()
    """What the images of D are called, where they have names."""
    classes: tuple[str, ...] = ()
    """The names of the classes in the order of their indices, where they have names."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.images.shape[1:])

    def fingerprint(self) -> str:
        """SHA-256 over the images of D and the test set with its targets: 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for part in (self.images, self.test_images, self.test_targets):
            digest.update(f"{tuple(part.shape)} {part.dtype}".encode())
            digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


class Task(Protocol):
    """A frozen dataclass whose fields are the task's own options."""

    name: ClassVar[str]
    metric: ClassVar[str]
    """Name of the score, for axes and tables."""
    higher_is_better: ClassVar[bool]
    extras: ClassVar[Mapping[str, str]]
    """Name -> meaning of the further test scores; each is a column `test_<name>` of the records."""
    map_unit: ClassVar[tuple[float, str] | None]
    """What 1 of a target map is in its unit, where targets are maps `1 x H x W`: samples are kept then."""
    defaults: ClassVar[Mapping[str, Any]]
    """Values that suit this task: for fields of the experiment and its generator, for `strategy` (a name), and
    under `search` those that a search takes instead, and under a generator's name what it takes instead."""

    def load(self) -> TaskData:
        """Read the data; raises UsageError naming the files that are missing and how to get them."""
        ...

    def network(self) -> nn.Module:
        """A fresh target network F, from images `b x C x H x W` in [0, 1], initialised from torch's global stream."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """L of Equation 1 for each sample, `b`."""
        ...

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The metric of each sample, `b`; the metric of a set is its mean."""
        ...

    def guess(self, images: Tensor, targets: Tensor) -> float:
        """The metric of the best prediction without learning on uint8 images and their targets `m x ...`: where
        learning curves start."""
        ...

    def encode(self, values: Tensor) -> Tensor:
        """The oracle's values `k x ...` as targets."""
        ...

    def extra_scores(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Further scores of each test sample, name -> `b`, under the names of `extras`."""
        ...


class Classification:
    """Cross entropy and accuracy: what the classification tasks share."""

    metric: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True
    extras: ClassVar[Mapping[str, str]] = {}
    map_unit: ClassVar[tuple[float, str] | None] = None

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy of logits `b x classes` with classes `b`, for each sample."""
        return functional.cross_entropy(outputs, targets, reduction="none")

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """1 where the largest logit is the class, else 0."""
        return (outputs.argmax(1) == targets).to(torch.float32)

    def guess(self, images: Tensor, targets: Tensor) -> float:
        """The share of the most frequent class."""
        return targets.bincount().max().item() / len(targets)

    def encode(self, values: Tensor) -> Tensor:
        """Class indices are targets as they are."""
        return values

    def extra_scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """None."""
        return {}


def to_unit(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1], which is what the networks and the generator see."""
    return images.to(torch.float32).div_(255.0)


def in_parts(images: Tensor, most: int) -> tuple[Tensor, ...]:
    """Images `m x C x H x W` in parts that there is memory for: of `most` images, fewer if they are large."""
    return images.split(max(1, min(most, PIXELS // images[0, 0].numel()))) if len(images) else (images,)


def to_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8: a synthesised sample is an 8-bit image like every other."""
    return images.clamp(0, 1).mul(255.0).round_().to(torch.uint8)
