"""Greedy choices that spread over a space of features: k-centre, and D² sampling (k-means++)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK = 1024  # centres compared at once


def squared_gaps(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distance of each point `m x d` to the nearest of `k x d` centres: float32 `m`, infinite for k = 0."""
    gaps = torch.full((len(points),), torch.inf)
    for chunk in centres.split(CHUNK):
        gaps = torch.minimum(gaps, torch.cdist(points, chunk).amin(1).square())
    return gaps


def k_centre(points: Tensor, centres: Tensor, count: int) -> Tensor:
    """`count` positions of points `m x d`, each the one farthest from all `k x d` centres and from those before it.

    Ties go to the lower position. Without centres the first is the point nearest to the mean.
    """
    if not len(centres):
        first = (points - points.mean(0)).square().sum(1).argmin()
        chosen = [int(first)]
        gaps = (points - points[first]).square().sum(1)
    else:
        chosen = []
        gaps = squared_gaps(points, centres)
    gaps[chosen] = -1.0
    while len(chosen) < min(count, len(points)):
        best = int(gaps.argmax())
        chosen.append(best)
        gaps = torch.minimum(gaps, (points - points[best]).square().sum(1))
        gaps[best] = -1.0
    return torch.tensor(chosen, dtype=torch.int64)


def d_squared(first: int, gaps_to: Callable[[int], Tensor], count: int, rng: torch.Generator) -> Tensor:
    """The seeds of k-means++: each drawn in proportion to its squared distance to the nearest seed so far.

    Args:
        first: position of the first seed.
        gaps_to: squared distance of all points to one of them, `m`.
    """
    chosen = [first]
    gaps = gaps_to(first).double().clamp(min=0)
    while len(chosen) < min(count, len(gaps)):
        gaps[chosen] = 0.0
        total = gaps.cumsum(0)
        if total[-1] <= 0:  # all that is left coincides with seeds
            left = torch.ones(len(gaps), dtype=torch.bool)
            left[chosen] = False
            rest = left.nonzero()[:, 0]
            extra = rest[torch.randperm(len(rest), generator=rng)[: count - len(chosen)]]
            return torch.cat([torch.tensor(chosen), extra])
        at = torch.rand((), generator=rng, dtype=torch.float64) * total[-1]
        new = int(torch.searchsorted(total, at, right=True).clamp(max=len(gaps) - 1))
        if gaps[new] <= 0:  # by rounding
            new = int(gaps.argmax())
        chosen.append(new)
        gaps = torch.minimum(gaps, gaps_to(new).double().clamp(min=0))
    return torch.tensor(chosen, dtype=torch.int64)
