"""Core-set selection by greedy k-centre on the network's features (Sener and Savarese 2018, Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from alss_ray.strategies.base import Learns, Pooled, Query, View
from alss_ray.strategies.covering import k_centre
from alss_ray.strategies.outputs import features, images_at, offered_rows


@dataclass(frozen=True)
class CoreSet(Pooled):
    """Label what lies farthest from everything that is labelled, in the space of F's last features."""

    name: ClassVar[str] = "core_set"
    learns: ClassVar[Learns] = "anything"

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        rows = offered_rows(view)
        known = features(view.network, view.labelled.images)
        return Query(rows[k_centre(features(view.network, images_at(view, rows)), known, count)])
