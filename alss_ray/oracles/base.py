"""The contract of an oracle, the labelling tool S of the paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class ImageBatch:
    """Images to be labelled. Iterating gives one uint8 array `C x H x W` each, ready for a program to look at."""

    images: Tensor
    """uint8 `k x C x H x W`, on the CPU."""
    indices: Tensor
    """int64 `k`: the image's position in D, -1 for a synthesised one."""

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (image.numpy() for image in self.images)


@dataclass(frozen=True)
class Labels:
    """What an oracle gave back."""

    values: Tensor
    """`k x ...` on the CPU: one target an image; the rows of refused images are ignored."""
    refusals: Mapping[int, str] = field(default_factory=dict)
    """Position in the batch -> reason, for images that the oracle will not label."""
    bought: int | None = None
    """How many images the tool itself had to look at; None for all of them, fewer where a cache stands before it."""


class Oracle(Protocol):
    """Labels images. `label` raises only where the tool itself is broken; an image it cannot label is refused."""

    def label(self, images: ImageBatch) -> Labels: ...
