"""Nearest real samples of latent points (Algorithm 1, line 11), by exact Euclidean search in faiss or on the GPU.

Exact search over a filtered copy of the codes: 60,000 x 3 costs milliseconds and 1,000,000 x 16 under a second
(tests/benchmarks/neighbours.py), and an index would have to be rebuilt each round for what has been labelled.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import torch

FIRST_LOOK = 16  # neighbours fetched for every point before anything is known to be taken
REACH = 100.0  # times the codes' largest coordinate: float32 search is exact within
FAR = 1e30  # stands for infinity
GPU_MOST = 2048  # neighbours of a point that faiss finds on a GPU
GPU_MEMORY = 64 * 2**20  # bytes
DISTANCES = 2**27  # held at once by torch
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
    found = _candidates(
        np.ascontiguousarray(codes, np.float32), np.ascontiguousarray(near, np.float32), fetch
    )
    for row in np.flatnonzero(far):
        gap = ((codes.astype(np.float64) - points[row].astype(np.float64)) ** 2).sum(1)
        found[row] = np.lexsort((np.arange(len(gap)), gap))[:fetch]
    gaps = codes[found].astype(np.float64) - points[:, None, :].astype(np.float64)
    order = np.lexsort((found, (gaps**2).sum(2)), axis=1)
    return np.take_along_axis(found, order, 1)[:, :count]


def _candidates(codes: np.ndarray, points: np.ndarray, count: int) -> np.ndarray:
    """The rows of codes that float32 finds nearest, int64 `J x count`; on the GPU in a process that uses one."""
    if count > GPU_MOST or not torch.cuda.is_initialized():
        return faiss.knn(points, codes, count)[1]
    if faiss.get_num_gpus():
        return faiss.knn_gpu(_gpu(), points, codes, count)[1]
    return by_torch(codes, points, count, torch.device("cuda"))


@functools.cache
def _gpu() -> Any:
    """faiss's memory on the GPU; its usual 1.5 GB would be taken by every experiment that shares the card."""
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(GPU_MEMORY)
    return resources


def by_torch(codes: np.ndarray, points: np.ndarray, count: int, device: torch.device) -> np.ndarray:
    """The same by torch alone, where faiss was built without a GPU."""
    rows = torch.from_numpy(codes).to(device)
    parts = torch.from_numpy(points).to(device).split(max(1, DISTANCES // len(codes)))
    exact = "donot_use_mm_for_euclid_dist"  # products would lose digits, in TensorFloat-32 most of all
    found = [torch.cdist(part, rows, compute_mode=exact).topk(count, largest=False).indices for part in parts]
    return torch.cat(found).cpu().numpy()


def nearest(codes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The nearest row of codes for each point, taken or not: int64 `J`, repeats allowed."""
    return search(codes, points, 1)[:, 0]


def gaps(codes: np.ndarray, points: np.ndarray, which: int = 1) -> np.ndarray:
    """Distance of each point to its nearest code (`which` = 1), to the one after it (2), ...: float64 `J`."""
    found = search(codes, points, which)[:, -1]
    return np.linalg.norm(codes[found].astype(np.float64) - points, axis=1)


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
