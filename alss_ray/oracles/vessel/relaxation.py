"""Untangling and smoothing of a grid by the least distortion of its cells.

The energy of Garanzha et al. 2021, Foldover-free maps in 50 lines of code, doi:10.1145/3450626.3459847: finite for
folded cells but dearer the more they are folded, so that its minimum has none; minimised by Newton's method.
"""

from __future__ import annotations

import numpy as np

from .contours import Array
from .rings import cyclic

SIZE_WEIGHT = 0.1  # weight of even cell areas beside cell shape in the distortion energy
MOST_STEPS = 60
ENOUGH = 1e-3  # a smaller share of the energy gained in a step ends the search
# The two edges (along xi, along eta) at the four corners of a cell from its nodes (layer, ray): [corner, edge, node].
EDGES = np.array([[[-1, 1, 0, 0], [-1, 0, 1, 0]], [[-1, 1, 0, 0], [0, -1, 0, 1]],
                  [[0, 0, -1, 1], [-1, 0, 1, 0]], [[0, 0, -1, 1], [0, -1, 0, 1]]], dtype=float)  # fmt: skip
TO_NODES = EDGES.reshape(8, 4).T
TO_PAIRS = np.einsum("cen,cfm->nmcef", EDGES, EDGES).reshape(16, 16)


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
    layers = nodes.shape[1] - 1
    mirror = np.array([1.0, -1.0])  # makes unfolded cells positive
    nodes = nodes * mirror
    a, _ = corners(nodes)
    # The ideal cell: as long as its borders' cells, and as high as the wall is thick there over the layers.
    height = np.hypot(*(nodes[:, -1] - nodes[:, 0]).T) / layers
    height = 0.5 * (height + np.roll(height, -1))[None, :, None]
    ends = np.hypot(a[..., 0], a[..., 1])
    share = (np.arange(layers) + 0.5) / layers
    length = (1 - share) * ends[0, :, :1] + share * ends[2, :, -1:]
    length, height = (np.broadcast_to(size, ends.shape) for size in (length[None], height))
    if start is not None:
        nodes[:, 1:-1] = start[:, 1:-1] * mirror
    found = _minimise(nodes, np.stack([1.0 / length, 1.0 / height], axis=-1))
    return None if found is None else found * mirror


def _minimise(nodes: Array, scale: Array) -> Array | None:
    """Newton's method on the inner nodes; ``scale`` [4, rays, layers, 2] divides edges by their ideal lengths."""
    weight = 1.0 / np.prod(scale, axis=-1)
    weight = weight / weight.mean()

    def entries(nodes: Array) -> tuple[Array, Array]:
        """The edges over their ideal lengths (ax, ay, bx, by) [4, rays, layers, 4], and their determinant."""
        edges = np.stack(corners(nodes), axis=-2) * scale[..., None]
        (ax, ay), (bx, by) = np.moveaxis(edges, (-2, -1), (0, 1))
        return edges.reshape(*weight.shape, 4), ax * by - ay * bx

    def energy(nodes: Array, eps: float) -> float:
        e, det = entries(nodes)
        if eps == 0.0 and det.min() <= 0.0:
            return np.inf
        chi = 0.5 * (det + np.sqrt(eps**2 + det**2))
        return float(np.sum(weight * (np.sum(e**2, -1) + SIZE_WEIGHT * (1 + det**2)) / chi))

    previous = np.inf
    for _ in range(MOST_STEPS):
        e, det = entries(nodes)
        lowest = float(det.min())
        eps = 0.0 if lowest > 1e-3 else float(np.sqrt(1e-6 + 0.04 * lowest**2))
        root = np.sqrt(eps**2 + det**2)
        chi = 0.5 * (det + root)
        dchi = chi / root
        f = np.sum(e**2, -1) + SIZE_WEIGHT * (1 + det**2)
        cof = np.stack([e[..., 3], -e[..., 2], -e[..., 1], e[..., 0]], -1)
        slope = 2 * e / chi[..., None] + ((2 * SIZE_WEIGHT * det - f * dchi / chi) / chi)[..., None] * cof
        # Positive part of the second derivative: 2 I / chi, and the convex dependence on the determinant.
        cross = -(2 * dchi / chi**2)
        bend = 2 * SIZE_WEIGHT / chi + 2 * f * dchi**2 / chi**3 - 4 * SIZE_WEIGHT * det * dchi / chi**2
        mixed = cross[..., None, None] * e[..., :, None] * cof[..., None, :]
        hess = (2 / chi)[..., None, None] * np.eye(4) + mixed + np.swapaxes(mixed, -1, -2)
        hess += bend[..., None, None] * cof[..., :, None] * cof[..., None, :]
        try:
            move = _step(
                weight[..., None] * slope, weight[..., None, None] * hess, np.repeat(scale, 2, axis=-1)
            )
        except np.linalg.LinAlgError:
            break
        now, step = energy(nodes, eps), 1.0
        while step > 1e-4:
            trial = energy(nodes + step * move, eps)
            if trial < now:
                break
            step *= 0.5
        else:
            break
        nodes = nodes + step * move
        if eps == 0.0 and previous - trial < ENOUGH * trial:
            break
        previous = trial if eps == 0.0 else np.inf
    return None if entries(nodes)[1].min() <= 0 else nodes


def _step(slope: Array, hess: Array, scale: Array) -> Array:
    """Newton's step of all nodes [rays, layers + 1, 2], 0 on the borders.

    First [4, rays, layers, 4] and second derivatives [4, rays, layers, 4, 4] by the edges over their ideal lengths.
    """
    _, rays, layers, _ = slope.shape
    by_edge = (slope * scale).reshape(4, rays, layers, 2, 2).transpose(0, 3, 1, 2, 4)
    by_node = (TO_NODES @ by_edge.reshape(8, -1)).reshape(2, 2, rays, layers, 2)
    pairs = (hess * scale[..., :, None] * scale[..., None, :]).reshape(4, rays, layers, 2, 2, 2, 2)
    pairs = TO_PAIRS @ pairs.transpose(0, 3, 5, 1, 2, 4, 6).reshape(16, -1)
    # [own or next ray, the same][ray, layer, (node, component), (node, component)]
    cell = pairs.reshape(2, 2, 2, 2, rays, layers, 2, 2).transpose(1, 3, 4, 5, 0, 6, 2, 7)
    force = np.zeros((rays, layers + 1, 2))
    diagonal, onward = np.zeros((2, rays, layers + 1, 2, layers + 1, 2))
    for layer in range(layers):
        two = slice(layer, layer + 2)
        own, following = by_node[:, 0, :, layer], by_node[:, 1, :, layer]
        force[:, two] -= np.swapaxes(own + np.roll(following, 1, axis=1), 0, 1)
        diagonal[:, two, :, two] += cell[0, 0, :, layer] + np.roll(cell[1, 1, :, layer], 1, axis=0)
        onward[:, two, :, two] += cell[0, 1, :, layer]
    m = 2 * (layers - 1)
    inner = slice(1, -1)
    diagonal, onward = (b[:, inner, :, inner].reshape(rays, m, m) for b in (diagonal, onward))
    move = np.zeros_like(force)
    move[:, inner] = cyclic(diagonal, onward, force[:, inner].reshape(rays, m)).reshape(rays, layers - 1, 2)
    return move
