"""Cluster-Margin: low margins, spread over clusters (Citovsky et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from sklearn.cluster import AgglomerativeClustering

from alss_ray.config import at_least
from alss_ray.strategies.base import Pooled, Query, View
from alss_ray.strategies.margin import margin
from alss_ray.strategies.outputs import features, highest, images_at, offered_rows, probabilities


@dataclass(frozen=True)
class ClusterMargin(Pooled):
    """Of the samples with the lowest margins, one from each cluster in turn, the smallest clusters first.

    The paper clusters the whole pool once; here the candidates of the round are clustered, by average linkage on
    F's features, so that the cost does not grow with the square of the pool.
    """

    candidates: int = 10
    """Samples of low margin to choose among, times the round size."""

    name: ClassVar[str] = "cluster_margin"

    def __post_init__(self) -> None:
        at_least("cluster_margin", 1, candidates=self.candidates)

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        rows = offered_rows(view)
        margins = margin(probabilities(view.network, images_at(view, rows)))
        rows = rows[highest(-margins, self.candidates * count)]  # the lowest margin first
        if len(rows) <= count:
            return Query(rows)
        described = features(view.network, images_at(view, rows)).numpy()
        cluster = AgglomerativeClustering(count, linkage="average").fit_predict(described)
        return Query(rows[in_turn(cluster, count)])


def in_turn(cluster: np.ndarray, count: int) -> torch.Tensor:
    """Positions `count` of samples with a cluster each: one of every cluster, the smallest first, again and again.

    Within a cluster positions are taken in their order.
    """
    sizes = np.bincount(cluster)
    rank = np.empty(len(cluster), np.int64)  # place within its cluster
    for c in range(len(sizes)):
        rank[cluster == c] = np.arange(sizes[c])
    order = np.lexsort((cluster, sizes[cluster], rank))
    return torch.from_numpy(order[:count].copy())
