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
    """Draw many points; label the images of those farthest from what is labelled and from each other.

    The farthest are those that an oracle refuses most. Each replacement of refused images is chosen among half as many
    points as the one before, and ends as a plain draw.
    """

    draws: int = 10
    """Points to choose among, times the round size."""

    name: ClassVar[str] = "si_core_set"

    def __post_init__(self) -> None:
        at_least("si_core_set", 1, draws=self.draws)

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        assert view.embedding is not None
        points = self.draw(view.embedding, max(1, self.draws >> view.refill) * count, rng)
        known = view.labelled.points.cpu() if view.t > 1 else points[:0]
        return self.query(view, points[k_centre(points, known, count)], {})
