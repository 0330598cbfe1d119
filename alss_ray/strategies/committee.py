"""Query by committee for regression: the variance of an ensemble (Krogh and Vedelsby 1995; Burbidge et al. 2007)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from alss_ray.config import at_least
from alss_ray.strategies.base import Learns, Pooled, Query, View
from alss_ray.strategies.outputs import highest, images_at, offered_rows, outputs


@dataclass(frozen=True)
class Committee(Pooled):
    """Label where the maps of several networks differ most."""

    committee: int = 3  # type: ignore[misc]
    """Networks that are trained, F among them."""
    chosen: Literal["highest", "proportional"] = "highest"
    """The highest variances, or a draw in proportion to them, which leaves a share to the easier samples."""

    name: ClassVar[str] = "committee"
    learns: ClassVar[Learns] = "maps"

    def __post_init__(self) -> None:
        at_least("committee", 2, committee=self.committee)

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        rows = offered_rows(view)
        scores = variance(view, images_at(view, rows))
        if self.chosen == "highest":
            return Query(rows[highest(scores, count)])
        return Query(rows[in_proportion(scores, count, rng)])


def variance(view: View, images: Tensor) -> Tensor:
    """Variance of the members' outputs, mean over the pixels, float64 `m`, for uint8 images on F's device."""
    answers = torch.stack([outputs(member, images) for member in view.members])
    return answers.double().var(0, correction=1).flatten(1).mean(1)


def in_proportion(scores: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """`count` distinct positions drawn one by one in proportion to scores of 0 or more, `m`."""
    # The exponential race: with rates w the order of arrival is that of draws without replacement by w.
    arrivals = torch.empty(len(scores), dtype=torch.float64).exponential_(generator=rng)
    return (arrivals / scores.double().clamp(min=1e-300)).argsort(stable=True)[:count]
