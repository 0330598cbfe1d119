"""Core-set selection in the generator's latent space: greedy k-centre (Sener and Savarese 2018) on E(D)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from alss_ray.strategies.base import Learns, Pooled, Query, View
from alss_ray.strategies.covering import k_centre
from alss_ray.strategies.outputs import free_rows


@dataclass(frozen=True)
class LatentCoreSet(Pooled):
    """Label what lies farthest from everything that is labelled, in latent space; F is not asked."""

    name: ClassVar[str] = "latent_core_set"
    needs_embedding: ClassVar[bool] = True
    learns: ClassVar[Learns] = "anything"

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        assert view.embedding is not None
        rows = free_rows(view)
        return Query(rows[k_centre(view.embedding.codes[rows], view.labelled.points.cpu(), count)])
