"""The contract of an oracle, the labelling tool S of the paper."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

VALIDATION, TEST = 0, -1
"""What labels are for that belong to no round."""


@dataclass(frozen=True)
class Why:
    """Why an image was chosen, for people who are asked to label it. What there is no telling of is NaN or None."""

    gradient_norm: float = math.nan
    """Length of dL/dp (Equation 1) at the labelled sample that the proposal was stepped from."""
    predicted: Tensor | None = None
    """What F makes of the image, in the oracle's terms: a class (int64, no dimensions) or a map `1 x H x W`."""
    margin: float = math.nan
    """Probability of the predicted class less that of the next."""


@dataclass(frozen=True)
class ImageBatch:
    """Images to be labelled. Iterating gives one uint8 array `C x H x W` each, ready for a program to look at."""

    images: Tensor
    """uint8 `k x C x H x W`, on the CPU."""
    indices: Tensor
    """int64 `k`: the image's position in D, -1 for a synthesised one."""
    asker: str = ""
    """Identity of the experiment that asks."""
    round: int = VALIDATION
    """The round t that they are for; VALIDATION or TEST."""
    why: Sequence[Why] = ()
    """One an image, for oracles that want them (`explained`); else empty."""

    def take(self, positions: Sequence[int]) -> ImageBatch:
        """The images at these positions."""
        rows = torch.tensor(positions, dtype=torch.int64)
        why = [self.why[k] for k in positions] if self.why else ()
        return ImageBatch(self.images[rows], self.indices[rows], self.asker, self.round, why)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (image.numpy() for image in self.images)


@dataclass(frozen=True)
class Errand:
    """How a label came about that a person gave. Times are seconds since 1970, UTC."""

    asker: str
    """Identity of the experiment that asked first."""
    asked: float
    """When the image was laid before people."""
    came: float
    """When the label came back."""
    seconds: float = math.nan
    """Time that was spent on the image, where the tool measures it."""
    votes: str = ""
    """How they voted, where several people were asked."""


@dataclass(frozen=True)
class Labels:
    """What an oracle gave back."""

    values: Tensor
    """`k x ...` on the CPU: one target an image; the rows of refused images are ignored."""
    refusals: Mapping[int, str] = field(default_factory=dict)
    """Position in the batch -> reason, for images that the oracle will not label."""
    bought: int | None = None
    """How many images the tool itself had to look at; None for all of them, fewer where a cache stands before it."""
    errands: Mapping[int, Errand] = field(default_factory=dict)
    """Position in the batch -> how its label, or its refusal, came about, where people gave it."""


class Oracle(Protocol):
    """Labels images. `label` raises only where the tool itself is broken; an image it cannot label is refused.

    Two attributes are optional. `explained`, where true, has batches say why their images were chosen. `keeps`, where
    true, says that it keeps its labels itself, so that no cache is put before it.
    """

    def label(self, images: ImageBatch) -> Labels: ...
