"""The paper's baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from alss_ray.strategies.base import Query, View, draw_free


@dataclass(frozen=True)
class Random:
    """Random selection from the real data (Mo et al. 2020, Section 4.2)."""

    name: ClassVar[str] = "random"
    needs_embedding: ClassVar[bool] = False
    makes_images: ClassVar[bool] = False
    fills_first_round: ClassVar[bool] = False

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        return Query(draw_free(view.free, count, rng))
