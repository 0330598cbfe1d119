"""Uncertainty sampling by the margin between the two likeliest classes (Scheffer, Decomain and Wrobel 2001)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from alss_ray.strategies.base import Pooled, Query, View
from alss_ray.strategies.outputs import highest, images_at, offered_rows, probabilities


@dataclass(frozen=True)
class Margin(Pooled):
    """Label where the two likeliest classes are closest in probability."""

    name: ClassVar[str] = "margin"

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        rows = offered_rows(view)
        margins = margin(probabilities(view.network, images_at(view, rows)))
        return Query(rows[highest(-margins, count)])


def margin(p: Tensor) -> Tensor:
    """Probability of the likeliest class less that of the next, `m`, for probabilities `m x classes`."""
    two = p.topk(2, dim=1).values
    return two[:, 0] - two[:, 1]
