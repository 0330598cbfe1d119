"""Untangling and smoothing of a grid by the least distortion of its cells.

The energy of Garanzha et al. 2021, Foldover-free maps in 50 lines of code, doi:10.1145/3450626.3459847: finite for
folded cells but dearer the more they are folded, so that its minimum has none; minimised by Newton's method.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from .contours import Array

SIZE_WEIGHT = 0.1  # weight of even cell areas beside cell shape in the distortion energy
MOST_STEPS = 60


def corners(nodes: Array) -> tuple[Array, Array]:
    """Edge vectors (along xi, along eta) at the four corners of every cell: two arrays [4, rays, layers, 2]."""
    ahead = np.roll(nodes, -1, axis=0)
    along, across = ahead - nodes, nodes[:, 1:] - nodes[:, :-1]
    low, high, here, there = along[:, :-1], along[:, 1:], across, np.roll(across, -1, axis=0)
    return np.stack([low, low, high, high]), np.stack([here, there, here, there])


def sines(nodes: Array) -> Array:
    """Sine of the cell angles at all corners, positive where the cell is not folded: [4, rays, layers].

    With xi counter-clockwise and eta outward the map's Jacobian is negative.
    """
    a, b = corners(nodes)
    return (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]) / -(
        np.hypot(a[..., 0], a[..., 1]) * np.hypot(b[..., 0], b[..., 1]) + 1e-300
    )


def relaxed(nodes: Array, start: Array | None = None) -> Array | None:
    """The grid ``nodes`` [rays, layers + 1, 2] with its inner nodes moved to the least distortion.

    The search begins at the inner nodes of ``start``, else of ``nodes``. None if cells stay folded.
    """
    rays, layers = nodes.shape[0], nodes.shape[1] - 1
    nodes = nodes * np.array([1.0, -1.0])  # makes unfolded cells positive
    a, _ = corners(nodes)
    # The ideal cell: as long as its borders' cells, and as high as the wall is thick there over the layers.
    height = np.hypot(*(nodes[:, -1] - nodes[:, 0]).T) / layers
    height = 0.5 * (height + np.roll(height, -1))[None, :, None]
    ends = np.hypot(a[..., 0], a[..., 1])
    share = (np.arange(layers) + 0.5) / layers
    length = (1 - share) * ends[0, :, :1] + share * ends[2, :, -1:]
    length = np.broadcast_to(length[None], ends.shape)
    height = np.broadcast_to(height, ends.shape)

    index = np.arange(rays * (layers - 1)).reshape(rays, layers - 1)
    number = np.full((rays, layers + 1), -1)
    number[:, 1:-1] = index
    # Nodes of the corner triangles: (corner, its neighbour along xi, its neighbour along eta), with edge signs.
    i, j = np.meshgrid(np.arange(rays), np.arange(layers), indexing="ij")
    k = (i + 1) % rays
    tri = np.stack(
        [
            np.stack([number[i, j], number[k, j], number[i, j], number[i, j + 1]], -1),
            np.stack([number[i, j], number[k, j], number[k, j], number[k, j + 1]], -1),
            np.stack([number[i, j + 1], number[k, j + 1], number[i, j], number[i, j + 1]], -1),
            np.stack([number[i, j + 1], number[k, j + 1], number[k, j], number[k, j + 1]], -1),
        ]
    )
    if start is not None:
        nodes = nodes.copy()
        nodes[:, 1:-1] = start[:, 1:-1] * np.array([1.0, -1.0])
    return _minimise(nodes, length, height, tri)


def _minimise(nodes: Array, length: Array, height: Array, tri: Array) -> Array | None:
    unknowns = 2 * nodes.shape[0] * (nodes.shape[1] - 2)
    # d(entries of A)/d(node coordinates): A = [a / length, b / height], entries ordered ax, ay, bx, by.
    sign = np.array([-1.0, 1.0, -1.0, 1.0])
    scale = np.stack([1 / length, 1 / length, 1 / height, 1 / height], -1) * sign
    entry = np.array([0, 0, 2, 2])
    rows, cols, vals = [], [], []
    corner = np.arange(length.size).reshape(length.shape)
    for n in range(4):
        free = tri[..., n] >= 0
        for c in range(2):
            rows.append(4 * corner[free] + entry[n] + c)
            cols.append(2 * tri[..., n][free] + c)
            vals.append(scale[..., n][free])
    to_a = sparse.csr_matrix(
        (np.concatenate(vals), (np.concatenate(rows), np.concatenate(cols))),
        shape=(4 * length.size, unknowns),
    )
    weight = (length * height).ravel()
    weight = weight / weight.mean()
    x = nodes[:, 1:-1].reshape(-1)
    a, b = corners(nodes)
    start = np.concatenate([a / length[..., None], b / height[..., None]], -1).reshape(-1) - to_a @ x

    def energy(entries: Array, eps: float) -> float:
        e = entries.reshape(-1, 4)
        det = e[:, 0] * e[:, 3] - e[:, 1] * e[:, 2]
        if eps == 0.0 and det.min() <= 0.0:
            return np.inf
        chi = 0.5 * (det + np.sqrt(eps**2 + det**2))
        return float(np.sum(weight * (np.sum(e**2, 1) + SIZE_WEIGHT * (1 + det**2)) / chi))

    eps, previous = 0.0, np.inf
    for _ in range(MOST_STEPS):
        entries = start + to_a @ x
        e = entries.reshape(-1, 4)
        det = e[:, 0] * e[:, 3] - e[:, 1] * e[:, 2]
        lowest = float(det.min())
        eps = 0.0 if lowest > 1e-3 else float(np.sqrt(1e-6 + 0.04 * lowest**2))
        root = np.sqrt(eps**2 + det**2)
        chi = 0.5 * (det + root)
        dchi = chi / root
        f = np.sum(e**2, 1) + SIZE_WEIGHT * (1 + det**2)
        cof = np.stack([e[:, 3], -e[:, 2], -e[:, 1], e[:, 0]], 1)
        slope = 2 * e / chi[:, None] + ((2 * SIZE_WEIGHT * det - f * dchi / chi) / chi)[:, None] * cof
        # Positive part of the second derivative: 2 I / chi, and the convex dependence on the determinant.
        cross = -(2 * dchi / chi**2)
        bend = 2 * SIZE_WEIGHT / chi + 2 * f * dchi**2 / chi**3 - 4 * SIZE_WEIGHT * det * dchi / chi**2
        hess = (2 / chi)[:, None, None] * np.eye(4) + bend[:, None, None] * cof[:, :, None] * cof[:, None, :]
        mixed = cross[:, None, None] * (e[:, :, None] * cof[:, None, :] + cof[:, :, None] * e[:, None, :])
        hess = hess + mixed
        blocks = sparse.bsr_matrix((weight[:, None, None] * hess, np.arange(len(e)), np.arange(len(e) + 1)))
        matrix = (to_a.T @ blocks @ to_a).tocsc()
        gradient = to_a.T @ (weight[:, None] * slope).reshape(-1)
        move = -splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(gradient)
        now, step = energy(entries, eps), 1.0
        while step > 1e-4:
            trial = energy(start + to_a @ (x + step * move), eps)
            if trial < now:
                break
            step *= 0.5
        else:
            return None if lowest <= 0 else _with(nodes, x)
        x = x + step * move
        if eps == 0.0 and previous - trial < 1e-3 * trial:
            break
        previous = trial if eps == 0.0 else np.inf
    entries = (start + to_a @ x).reshape(-1, 4)
    folded = np.min(entries[:, 0] * entries[:, 3] - entries[:, 1] * entries[:, 2]) <= 0
    return None if folded else _with(nodes, x)


def _with(nodes: Array, x: Array) -> Array:
    """The grid with its inner nodes replaced, in image orientation again."""
    nodes = nodes.copy()
    nodes[:, 1:-1] = x.reshape(nodes.shape[0], -1, 2)
    return nodes * np.array([1.0, -1.0])
