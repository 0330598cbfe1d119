"""BALD: mutual information of label and network (Houlsby et al. 2011), by an ensemble (Beluch et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from alss_ray.config import at_least
from alss_ray.strategies.base import Pooled, Query, View
from alss_ray.strategies.outputs import committee_probabilities, entropy, highest, images_at, offered_rows


@dataclass(frozen=True)
class Bald(Pooled):
    """Label where the committee's mean is uncertain and its members are not: where they disagree.

    Members are networks of their own, as the target networks here have no dropout to sample from.
    """

    committee: int = 3  # type: ignore[misc]
    """Networks that are trained, F among them."""

    name: ClassVar[str] = "bald"

    def __post_init__(self) -> None:
        at_least("bald", 2, committee=self.committee)

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        rows = offered_rows(view)
        p = committee_probabilities(view.members, images_at(view, rows))
        information = entropy(p.mean(0)) - entropy(p).mean(0)
        return Query(rows[highest(information, count)])
