"""Uncertainty sampling by the entropy of the predicted distribution (Shannon 1948; Settles 2009, Section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from alss_ray.strategies.base import Pooled, Query, View
from alss_ray.strategies.outputs import entropy, highest, images_at, offered_rows, probabilities


@dataclass(frozen=True)
class Entropy(Pooled):
    """Label where the predicted distribution over the classes has the highest entropy."""

    name: ClassVar[str] = "entropy"

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        rows = offered_rows(view)
        p = probabilities(view.network, images_at(view, rows))
        return Query(rows[highest(entropy(p), count)])
