"""The paper's baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from alss_ray.strategies.base import Learns, Pooled, Query, View, draw_free


@dataclass(frozen=True)
class Random(Pooled):
    """Random selection from the real data (Mo et al. 2020, Section 4.2)."""

    name: ClassVar[str] = "random"
    learns: ClassVar[Learns] = "anything"

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        return Query(draw_free(view.free, count, rng))
