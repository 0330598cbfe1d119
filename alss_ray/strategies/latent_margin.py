"""Latent margin: the network says what is hard, latent space says what is alike.

For each round:

1. Every unlabelled sample gets F's margin (Scheffer, Decomain and Wrobel 2001); its hardness is 1 - margin.
2. The hardest `candidates` x J samples are cut into J clusters of latent space by k-means, weighted by hardness as in
   weighted quantisation: hard regions get more clusters, and near-duplicates share one.
3. The hardest sample of each cluster is labelled.

Where networks may look at a share of the pool only (`score_limit`), latent space says where it is worth looking: at the
samples whose nearest labelled ones agree least on a class, which costs no pass of F.

It differs from Cluster-Margin (Citovsky et al. 2021) in that it clusters in a space that was learnt from all images
before there were labels, and in the weights.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

import faiss
import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from alss_ray.config import at_least
from alss_ray.strategies.base import Pooled, Query, View
from alss_ray.strategies.margin import margin
from alss_ray.strategies.outputs import free_rows, highest, images_at, probabilities

ITERATIONS = 30  # of k-means, at most: clusters need to spread, not to converge


CERTAIN = 1e-6  # hardness below which samples weigh the same: clusters of no weight have no centre


@dataclass(frozen=True)
class LatentMargin(Pooled):
    """Label what F is least sure of, one from each cluster of latent space."""

    candidates: int = 10
    """Hardest samples to cluster, times the round size."""
    neighbours: int = 10
    """Labelled samples whose classes say where to look, under a limit to scoring."""

    name: ClassVar[str] = "latent_margin"
    needs_embedding: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least("latent_margin", 1, candidates=self.candidates, neighbours=self.neighbours)

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        assert view.embedding is not None
        rows, codes = free_rows(view), view.embedding.codes
        if view.offered is not None:
            known, targets = view.labelled.points.cpu(), view.labelled.targets.cpu()
            shares = class_shares(codes[rows], known, targets, self.neighbours)
            rows = rows[highest(-margin(shares), len(view.offered))]
        hardness = 1 - margin(probabilities(view.network, images_at(view, rows)))
        hardest = highest(hardness, self.candidates * count)
        rows, hardness = rows[hardest], hardness[hardest]
        if len(rows) <= count:
            return Query(rows)
        seed = int(torch.randint(2**31, (), generator=rng))
        return Query(rows[first_of_clusters(codes[rows], hardness, count, seed)])


def class_shares(points: Tensor, known: Tensor, targets: Tensor, neighbours: int) -> Tensor:
    """Class shares among the nearest known points, float64 `m x classes`, two classes at least.

    A neighbour at squared distance d² counts exp(-d² / D²), D being the distance of the farthest that votes.

    Args:
        points: float32 `m x n`.
        known: float32 `k x n`, of classes `targets` (int64 `k`).
    """
    gaps, nearest = faiss.knn(points.numpy(), known.numpy(), min(neighbours, len(known)))
    squares = torch.from_numpy(gaps).double().clamp(min=0)
    weights = torch.exp(-squares / squares[:, -1:].clamp(min=torch.finfo(torch.float32).tiny))
    classes = max(2, int(targets.max()) + 1)  # a margin is between two
    shares = torch.zeros(len(points), classes, dtype=torch.float64)
    shares.scatter_add_(1, targets[torch.from_numpy(nearest)], weights)
    return shares / shares.sum(1, keepdim=True)


def first_of_clusters(points: Tensor, hardness: Tensor, count: int, seed: int) -> Tensor:
    """Positions of `count` points `m x n`, the hardest first: the first of each cluster, then of those left over.

    The points come in the order of their hardness, which weights the clusters.
    """
    k_means = KMeans(count, n_init=1, max_iter=ITERATIONS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters: see below
        cluster = k_means.fit_predict(points.numpy(), sample_weight=hardness.clamp(min=CERTAIN).numpy())
    leads = np.zeros(len(points), bool)
    leads[np.unique(cluster, return_index=True)[1]] = True
    # A cluster may have lost all its points to others; the hardest that lead none stand in.
    order = np.concatenate([np.flatnonzero(leads), np.flatnonzero(~leads)])
    return torch.from_numpy(order[:count])
