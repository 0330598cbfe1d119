"""The contract of a strategy: who gets labelled next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from alss_ray.generators.base import Embedding
from alss_ray.labelled import LabelledSet

Learns = Literal["anything", "classes", "maps"]


@dataclass(frozen=True)
class View:
    """What a strategy may see, and must not change. Labels that were not bought are not in it."""

    t: int
    """The round that is being filled: 2 or more, but for strategies that fill the first round themselves."""
    network: nn.Module
    """F after the last round's training, in evaluation mode, on the device of `images`."""
    images: Tensor
    """uint8 `N x C x H x W`: D."""
    free: Tensor
    """bool `N` on the CPU: what can be asked for (not labelled, not validation, not refused before)."""
    barred: Tensor
    """bool `N` on the CPU: what must not be asked for even again (validation, refused)."""
    labelled: LabelledSet
    """T(1) to T(t-1)."""
    loss: Callable[[Tensor, Tensor], Tensor]
    """(outputs `b x ...`, targets `b x ...`) -> the loss of each sample, `b`."""
    embedding: Embedding | None
    """E, G and E(D); None unless the strategy asks for it."""
    members: Sequence[nn.Module] = ()
    """The networks of the committee, F first, as many as the strategy asks for, like F in all else."""
    offered: Tensor | None = None
    """int64, ascending, on the CPU: a fair draw from what is free, of the images that networks may look at. A strategy
    that knows where to look may take others in their place. None for all that is free."""
    refill: int = 0
    """Which replacement of refused images this is in the round; 0 for the round's own proposal."""


@dataclass(frozen=True)
class Query:
    """What is to be labelled."""

    indices: Tensor
    """int64 `J` on the CPU: positions in D, -1 for a synthesised image."""
    images: Tensor | None = None
    """uint8 `J x C x H x W` that F shall train on instead of the real samples; None for those themselves."""
    points: Tensor | None = None
    """float32 `J x n`: where synthesised images were made; None for real samples."""
    shown: Tensor | None = None
    """uint8 `J x C x H x W`: synthesised images as the oracle is to see them; None for `images` themselves."""
    sources: Tensor | None = None
    """int64 `J`: rows of the labelled set that the proposals were stepped from; None where that is not told."""
    stepped: Tensor | None = None
    """float32 `J x n`: where those steps led, beside the real samples that are asked for; None for no steps."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What happened on the way, under the names of `records.PROPOSAL_COUNTS`."""

    def parts(self) -> dict[str, Tensor]:
        """Its tensors by name, without those that are None."""
        names = [f.name for f in fields(self) if f.name != "counts"]
        return {name: part for name in names if (part := getattr(self, name)) is not None}

    @classmethod
    def of(cls, parts: Mapping[str, Tensor]) -> Query:
        """The query with these parts."""
        named: dict[str, Any] = dict(parts)
        return cls(**named)

    def take(self, rows: Tensor) -> Query:
        """The proposals at `rows` (positions or a mask)."""
        return Query.of({name: part[rows] for name, part in self.parts().items()})

    @classmethod
    def joined(cls, queries: Sequence[Query]) -> Query:
        """Proposals of one strategy, one behind the other."""
        names = queries[0].parts()
        return cls.of({name: torch.cat([query.parts()[name] for query in queries]) for name in names})


class Strategy(Protocol):
    """A frozen dataclass whose fields are the strategy's options. It keeps no state between rounds."""

    name: ClassVar[str]
    needs_embedding: ClassVar[bool]
    makes_images: ClassVar[bool]
    """Whether it asks for labels of synthesised images, which an oracle of stored labels does not have."""
    learns: ClassVar[Learns]
    """What F must be learning for the strategy to make sense."""

    @property
    def committee(self) -> int:
        """How many networks are trained; F is the first. The others have an initialisation and batches of their own."""
        ...

    @property
    def fills_first_round(self) -> bool:
        """Whether it is asked for T(1), too, with a fresh network; else T(1) is a random draw from D."""
        ...

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        """Ask for `count` samples, fewer only where D has no more. All chance comes from `rng` (on the CPU)."""
        ...


@dataclass(frozen=True)
class Pooled:
    """What strategies say of themselves that choose among the real samples of D by what one network makes of them."""

    needs_embedding: ClassVar[bool] = False
    makes_images: ClassVar[bool] = False
    fills_first_round: ClassVar[bool] = False
    learns: ClassVar[Learns] = "classes"
    committee: ClassVar[int] = 1


def draw_free(free: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """`count` distinct positions at random among the free ones, int64; all of them where there are fewer."""
    candidates = free.nonzero()[:, 0]
    return candidates[torch.randperm(len(candidates), generator=rng)[:count]]
