"""The labelled set: the union of the increments T(1), T(2), ... of the paper."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class LabelledSet:
    """Samples with their labels, in the order in which they were bought. Appending gives a new set."""

    images: Tensor
    """uint8 `m x C x H x W`, what F trains on."""
    targets: Tensor
    """`m x ...`: class indices (int64) or maps (float32)."""
    indices: Tensor
    """int64 `m`: the sample's position in D, -1 for a synthesised one."""
    rounds: Tensor
    """int64 `m`: the round t that bought it."""
    made: Tensor
    """bool `m`: the image was made by the generator, so it is not the one that stands in D."""
    points: Tensor
    """float32 `m x n`: where the sample lies in latent space; `m x 0` where there is no embedding."""

    def __len__(self) -> int:
        return len(self.indices)

    @classmethod
    def empty(cls, images: Tensor) -> LabelledSet:
        """No samples, for images shaped and placed like `images`; the first append settles the targets' form."""
        none = torch.empty(0, dtype=torch.int64, device=images.device)
        return cls(images[:0], none, none, none, none.bool(), torch.empty(0, 0, device=images.device))

    def append(
        self,
        images: Tensor,
        targets: Tensor,
        indices: Tensor,
        t: int,
        made: bool,
        points: Tensor | None = None,
    ) -> LabelledSet:
        """This set with round t's increment behind it; all tensors on one device, `points` in all rounds or none."""
        new = LabelledSet(
            images,
            targets,
            indices,
            torch.full_like(indices, t),
            torch.full_like(indices, made).bool(),
            torch.empty(len(indices), 0, device=indices.device) if points is None else points,
        )
        return self.joined(new) if len(self) else new

    def joined(self, other: LabelledSet) -> LabelledSet:
        """This set with the samples of another behind its own."""
        return LabelledSet(
            *(torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self))
        )

    def take(self, rows: Tensor) -> LabelledSet:
        """The samples at `rows`."""
        return LabelledSet(*(getattr(self, f.name)[rows] for f in fields(self)))

    @property
    def distinct(self) -> int:
        """How many different samples there are; as written, Algorithm 1 can add one again."""
        real = self.indices[self.indices >= 0]
        return len(real.unique()) + len(self) - len(real)

    def balance(self, classes: int) -> float | None:
        """How evenly the labels lie among so many classes: the entropy of their shares over its greatest value.

        1 where all are equally many, 0 where there is but one; None where labels are maps.
        """
        if self.targets.is_floating_point():
            return None
        counts = torch.bincount(self.targets.cpu(), minlength=max(2, classes)).double()
        return float(torch.special.entr(counts / len(self)).sum()) / math.log(len(counts))

    def pack(self) -> dict[str, Tensor]:
        """What must be saved: images of D are left out, for their indices say which they are."""
        return {
            "targets": self.targets,
            "indices": self.indices,
            "rounds": self.rounds,
            "made": self.made,
            "points": self.points,
            "made_images": self.images[self.made],
        }

    @classmethod
    def unpack(cls, saved: dict[str, Tensor], pool: Tensor) -> LabelledSet:
        """The set again, from D's images `N x C x H x W`, on their device."""
        parts = {name: tensor.to(pool.device) for name, tensor in saved.items()}
        made_images = parts.pop("made_images")
        images = pool[parts["indices"].clamp(min=0)]
        images[parts["made"]] = made_images
        return cls(images=images, **parts)
