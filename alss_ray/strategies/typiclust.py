"""TypiClust: typical samples of clusters that hold no label yet (Hacohen, Dekel and Weinshall 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.neighbors import NearestNeighbors

from alss_ray.config import at_least
from alss_ray.strategies.base import Learns, Pooled, Query, View

MANY = 50  # clusters beyond which k-means works on batches, as in the authors' program
SMALLEST = 5  # samples of a cluster that is considered while there are others


@dataclass(frozen=True)
class TypiClust(Pooled):
    """Cluster E(D) into as many clusters as there will be labels; label the densest sample of the largest open ones.

    The paper clusters self-supervised features; here those are the generator's codes.
    """

    neighbours: int = 20
    """Nearest neighbours in its cluster that a sample's typicality is averaged over."""
    most_clusters: int = 500
    """Clusters at most; beyond them, clusters with few labels are open again."""

    name: ClassVar[str] = "typiclust"
    needs_embedding: ClassVar[bool] = True
    learns: ClassVar[Learns] = "anything"

    def __post_init__(self) -> None:
        at_least("typiclust", 1, neighbours=self.neighbours, most_clusters=self.most_clusters)

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        assert view.embedding is not None
        codes = view.embedding.codes.numpy()
        free = view.free.numpy()
        wanted = min(view.labelled.distinct + count, self.most_clusters, len(codes))
        cluster = _clusters(codes, wanted, int(torch.randint(2**31, (), generator=rng)))
        known = view.labelled.indices.cpu().numpy()
        labels = np.bincount(cluster[known[known >= 0]], minlength=wanted)
        sizes = np.bincount(cluster, minlength=wanted)
        # Few labels first, then many samples; clusters too small for a typical sample come last.
        order = np.lexsort((np.arange(wanted), -sizes, labels, sizes < SMALLEST))
        members = [list(self._by_typicality(codes, np.flatnonzero((cluster == c) & free))) for c in order]
        chosen: list[int] = []
        while len(chosen) < count and any(members):
            for queue in members:
                if queue and len(chosen) < count:
                    chosen.append(int(queue.pop(0)))
        return Query(torch.tensor(chosen, dtype=torch.int64))

    def _by_typicality(self, codes: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Rows of one cluster, the one with the smallest mean distance to its neighbours first."""
        near = min(self.neighbours, len(rows) - 1)
        if near < 1:
            return rows
        gaps, _ = NearestNeighbors(n_neighbors=near).fit(codes[rows]).kneighbors()
        order: np.ndarray = rows[np.argsort(gaps.mean(1), kind="stable")]
        return order


def _clusters(codes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The cluster of each code, `N`, by k-means."""
    kind = KMeans if count <= MANY else MiniBatchKMeans
    found: np.ndarray = kind(count, n_init=1, random_state=seed).fit_predict(codes)
    return found
