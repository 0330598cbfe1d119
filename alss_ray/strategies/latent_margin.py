"""Latent margin: the network says what is hard, latent space says what is like what is known and what is alike.

For each round:

1. Every unlabelled sample gets class probabilities of two kinds: F's, and the votes of its nearest labelled samples in
   latent space. The embedding was learnt from all images, so the votes err elsewhere than F, above all while labels
   are few. The two are mixed, and the margin of the mixture (Scheffer, Decomain and Wrobel 2001) says how hard the
   sample is.
2. The hardest `candidates` x J samples are cut into J clusters of latent space by k-means, weighted by hardness as in
   weighted quantisation: hard regions get more clusters, and near-duplicates share one.
3. The hardest sample of each cluster is labelled.

Where networks may look at a share of the pool only (`score_limit`), the votes, which cost no pass of F, choose which.
It differs from Cluster-Margin (Citovsky et al. 2021) in where it clusters, in the weights and in the votes.
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

from alss_ray.config import UsageError, at_least
from alss_ray.strategies.base import Pooled, Query, View
from alss_ray.strategies.margin import margin
from alss_ray.strategies.outputs import free_rows, highest, images_at, probabilities

ITERATIONS = 30  # of k-means, at most: clusters need to spread, not to converge


CERTAIN = 1e-6  # hardness below which samples weigh the same: clusters of no weight have no centre


@dataclass(frozen=True)
class LatentMargin(Pooled):
    """Label what F and the latent neighbours are least sure of, one from each cluster of latent space."""

    candidates: int = 10
    """Hardest samples to cluster, times the round size."""
    votes: float = 0.3
    """Share of the latent neighbours' votes in the class probabilities; F's is the rest."""
    neighbours: int = 10
    """Labelled samples that vote."""

    name: ClassVar[str] = "latent_margin"
    needs_embedding: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least("latent_margin", 1, candidates=self.candidates, neighbours=self.neighbours)
        if not 0 <= self.votes <= 1:
            raise UsageError(f"latent_margin: votes is {self.votes}; give a share from 0 to 1.")

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        assert view.embedding is not None
        rows, codes = free_rows(view), view.embedding.codes
        classes = probabilities(view.network, view.labelled.images[:1]).shape[1]
        ballots = votes(
            codes[rows], view.labelled.points.cpu(), view.labelled.targets.cpu(), self.neighbours, classes
        )
        if view.offered is not None:
            looked_at = highest(-margin(ballots), len(view.offered))
            rows, ballots = rows[looked_at], ballots[looked_at]
        p = (1 - self.votes) * probabilities(view.network, images_at(view, rows)) + self.votes * ballots
        hardness = 1 - margin(p)
        hardest = highest(hardness, self.candidates * count)
        rows, hardness = rows[hardest], hardness[hardest]
        if len(rows) <= count:
            return Query(rows)
        seed = int(torch.randint(2**31, (), generator=rng))
        return Query(rows[first_of_clusters(codes[rows], hardness, count, seed)])


def votes(points: Tensor, known: Tensor, targets: Tensor, neighbours: int, classes: int) -> Tensor:
    """Class shares among the nearest known points, float64 `m x classes`.

    A neighbour at squared distance d² counts exp(-d² / D²), D being the distance of the farthest that votes.

    Args:
        points: float32 `m x n`.
        known: float32 `k x n`, of classes `targets` (int64 `k`).
    """
    gaps, nearest = faiss.knn(points.numpy(), known.numpy(), min(neighbours, len(known)))
    squares = torch.from_numpy(gaps).double().clamp(min=0)
    weights = torch.exp(-squares / squares[:, -1:].clamp(min=torch.finfo(torch.float32).tiny))
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
