"""Synthesised images that cover latent space: greedy k-centre (Sener and Savarese 2018) among draws of z."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from alss_ray.config import at_least
from alss_ray.strategies.base import Query, View
from alss_ray.strategies.covering import k_centre
from alss_ray.strategies.synthesis import Synthesis


@dataclass(frozen=True)
class SiCoreSet(Synthesis):
    """Draw many points; label the images of those farthest from what is labelled and from each other."""

    draws: int = 10
    """Points to choose among, times the round size."""

    name: ClassVar[str] = "si_core_set"

    def __post_init__(self) -> None:
        at_least("si_core_set", 1, draws=self.draws)

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        assert view.embedding is not None
        points = self.draw(view.embedding, self.draws * count, rng)
        known = view.labelled.points.cpu() if view.t > 1 else points[:0]
        return self.query(view, points[k_centre(points, known, count)], {})
