"""LCMD: the largest cluster's farthest sample, on last-layer gradients (Holzmueller et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from alss_ray.strategies.base import Learns, Pooled, Query, View
from alss_ray.strategies.outputs import features, images_at, offered_rows


@dataclass(frozen=True)
class Lcmd(Pooled):
    """Samples belong to their nearest labelled one; the cluster with the largest sum of squares gives the next.

    The last layer's gradient of an output is what enters that layer, so distances are those of F's features
    (training points as centres, "LCMD-TP").
    """

    name: ClassVar[str] = "lcmd"
    learns: ClassVar[Learns] = "maps"

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        rows = offered_rows(view)
        known = features(view.network, view.labelled.images)
        return Query(rows[largest_cluster(features(view.network, images_at(view, rows)), known, count)])


def largest_cluster(points: Tensor, centres: Tensor, count: int) -> Tensor:
    """`count` positions of points `m x d`: each the farthest from its centre in the largest cluster by squares."""
    pairs = torch.cdist(points, centres).square()
    gaps, owner = pairs.min(1)
    left = torch.ones(len(points), dtype=torch.bool)
    chosen: list[int] = []
    clusters = len(centres)
    while len(chosen) < min(count, len(points)):
        open_gaps = torch.where(left, gaps, 0.0)
        sums = torch.zeros(clusters).index_add_(0, owner, open_gaps)
        sums[torch.bincount(owner[left], minlength=clusters) == 0] = -1.0
        inside = left & (owner == sums.argmax())
        best = int(torch.where(inside, gaps, -1.0).argmax())
        chosen.append(best)
        left[best] = False
        new = (points - points[best]).square().sum(1)
        closer = new < gaps
        gaps, owner = torch.where(closer, new, gaps), torch.where(closer, clusters, owner)
        clusters += 1
    return torch.tensor(chosen, dtype=torch.int64)
