"""Uncertainty sampling by the least confident prediction (Lewis and Gale 1994)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from alss_ray.strategies.base import Pooled, Query, View
from alss_ray.strategies.outputs import highest, images_at, offered_rows, probabilities


@dataclass(frozen=True)
class LeastConfidence(Pooled):
    """Label where the probability of the predicted class is lowest."""

    name: ClassVar[str] = "least_confidence"

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        rows = offered_rows(view)
        p = probabilities(view.network, images_at(view, rows))
        return Query(rows[highest(-p.amax(1), count)])
