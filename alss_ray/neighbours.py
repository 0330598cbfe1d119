"""Nearest real samples of latent points (Algorithm 1, line 11), by exact Euclidean search in faiss.

Exact search over a filtered copy of the codes: 60,000 x 3 costs milliseconds and 1,000,000 x 16 under a second
(tests/benchmarks/neighbours.py), and an index would have to be rebuilt each round for what has been labelled.
"""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np

FIRST_LOOK = 16  # neighbours fetched for every point before anything is known to be taken
REACH = 100.0  # times the codes' largest coordinate: float32 search is exact within
FAR = 1e30  # stands for infinity
SPARE = 4  # extra candidates: faiss ranks in float32 with cancellation, the final order is in float64


@dataclass(frozen=True)
class Neighbours:
    """Real samples chosen for latent points."""

    indices: np.ndarray
    """int64 `J`: positions in D, distinct, all of them free; fewer than the points where D ran out."""
    points: np.ndarray
    """int64: the positions of the points that got them."""
    plain: np.ndarray
    """int64 `J`: the nearest sample of each point, free or not."""


def search(codes: np.ndarray, points: np.ndarray, count: int) -> np.ndarray:
    """The `count` nearest rows of codes `N x n` for points `J x n`: int64 `J x count`, nearest first.

    Ties go to the lower index. Points far outside the codes, where float32 has no digits left for their
    differences, are searched in float64.
    """
    fetch = min(count + SPARE, len(codes))
    points = np.nan_to_num(points, posinf=FAR, neginf=-FAR)
    far = np.abs(points).max(1) > REACH * np.abs(codes).max()
    near = np.where(far[:, None], codes[:1], points)
    _, found = faiss.knn(
        np.ascontiguousarray(near, np.float32), np.ascontiguousarray(codes, np.float32), fetch
    )
    for row in np.flatnonzero(far):
        gap = ((codes.astype(np.float64) - points[row].astype(np.float64)) ** 2).sum(1)
        found[row] = np.lexsort((np.arange(len(gap)), gap))[:fetch]
    gaps = codes[found].astype(np.float64) - points[:, None, :].astype(np.float64)
    order = np.lexsort((found, (gaps**2).sum(2)), axis=1)
    return np.take_along_axis(found, order, 1)[:, :count]


def nearest(codes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The nearest row of codes for each point, taken or not: int64 `J`, repeats allowed."""
    return search(codes, points, 1)[:, 0]


def nearest_free(codes: np.ndarray, points: np.ndarray, free: np.ndarray) -> Neighbours:
    """A free row of codes for each point, no row twice.

    Points choose in turn among their FIRST_LOOK nearest, each the nearest that is left; those whose nearest are
    all gone choose after the others, in turn, further out.

    Args:
        codes: float32 `N x n`, E(D).
        points: float32 `J x n`.
        free: bool `N`, False for what is labelled or set aside.
    """
    first = search(codes, points, min(FIRST_LOOK, len(codes)))
    left = free.copy()
    chosen = np.full(len(points), -1, np.int64)

    def choose(who: np.ndarray, candidates: np.ndarray) -> None:
        for point, row in zip(who, candidates, strict=True):
            ahead = row[left[row]]
            if len(ahead):
                chosen[point] = ahead[0]
                left[ahead[0]] = False

    choose(np.arange(len(points)), first)
    count = FIRST_LOOK
    while len(waiting := np.flatnonzero(chosen < 0)) and left.any():
        remaining = np.flatnonzero(left)
        choose(waiting, remaining[search(codes[remaining], points[waiting], min(count, len(remaining)))])
        count *= 2
    points = np.flatnonzero(chosen >= 0)
    return Neighbours(chosen[points], points, first[:, 0])
