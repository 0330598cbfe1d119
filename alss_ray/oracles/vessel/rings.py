"""Direct solution on a ring of elements by block cyclic reduction.

The unknowns of a closed ring of element columns couple only to the neighbouring columns. The columns of mid-side nodes
are eliminated first, all at once; then every second column of corner nodes, and so on, each time as one batch of small
dense systems. No sparse matrix is formed; the work is linear in the number of columns.
"""

from __future__ import annotations

import numpy as np

from .contours import Array
from .elements import Mesh


def gather(mesh: Mesh, tangent: Array) -> Array:
    """Element matrices [e, 18, 18] summed over the layers: [around, 3, m, 3, m], m unknowns in a node column."""
    m = 2 * mesh.nodes.shape[1]
    strips = np.zeros((mesh.around, 3, m, 3, m))
    local = tangent.reshape(mesh.around, mesh.across, 3, 6, 3, 6)
    for layer in range(mesh.across):
        rows = slice(4 * layer, 4 * layer + 6)
        strips[:, :, rows, :, rows] += local[:, layer]
    return strips


def scatter(mesh: Mesh, vectors: Array) -> Array:
    """Element vectors [e, 18] summed into a nodal field [2 * around, 2 * across + 1, 2]."""
    total = np.zeros((2 * mesh.around, mesh.nodes.shape[1], 2))
    local = vectors.reshape(mesh.around, mesh.across, 3, 3, 2)
    for layer in range(mesh.across):
        for n in range(3):
            columns = (2 * np.arange(mesh.around) + n) % (2 * mesh.around)
            total[columns, 2 * layer : 2 * layer + 3] += local[:, layer, n]
    return total


def solve_ring(strips: Array, force: Array, pinned: list[tuple[int, int]]) -> Array:
    """Solve K u = f for strips [n, 3, m, 3, m] and f [2n, m]; ``pinned`` (even column, row) unknowns stay 0.

    ``strips`` and ``force`` are changed in place. Raises numpy.linalg.LinAlgError for a singular matrix.
    """
    count, m = len(strips), strips.shape[2]
    for column, row in pinned:
        for strip, side in ((column // 2, 0), (column // 2 - 1, 2)):
            strips[strip, side, row] = 0.0
            strips[strip, :, :, side, row] = 0.0
            strips[strip, side, row, side, row] = 0.5 * BIG
        force[column, row] = 0.0
    right = np.concatenate([strips[:, 1, :, 0], strips[:, 1, :, 2], force[1::2, :, None]], axis=2)
    solved = np.linalg.solve(strips[:, 1, :, 1], right)
    from_left, from_right = strips[:, 0, :, 1], strips[:, 2, :, 1]
    low, high = from_left @ solved, from_right @ solved
    diagonal = (
        strips[:, 0, :, 0] - low[:, :, :m] + np.roll(strips[:, 2, :, 2] - high[:, :, m : 2 * m], 1, axis=0)
    )
    onward = strips[:, 0, :, 2] - low[:, :, m : 2 * m]
    corner_force = force[0::2] - low[:, :, -1] - np.roll(high[:, :, -1], 1, axis=0)
    corners = _cyclic(diagonal, onward, corner_force)
    middle = (
        solved[:, :, -1]
        - np.einsum("nij,nj->ni", solved[:, :, :m], corners)
        - np.einsum("nij,nj->ni", solved[:, :, m : 2 * m], np.roll(corners, -1, axis=0))
    )
    result = np.empty((2 * count, m))
    result[0::2], result[1::2] = corners, middle
    return result


BIG = 1e4  # a diagonal for pinned unknowns of the size of the other entries


def _cyclic(diagonal: Array, onward: Array, force: Array) -> Array:
    """Solve the symmetric ring D_i x_i + U_i x_(i+1) + U_(i-1)^T x_(i-1) = f_i; blocks [n, m, m], f [n, m]."""
    count, m = force.shape
    if count % 2 or count <= 4:
        matrix = np.zeros((count, m, count, m))
        for i in range(count):
            k = (i + 1) % count
            matrix[i, :, i] += diagonal[i]
            matrix[i, :, k] += onward[i]
            matrix[k, :, i] += onward[i].T
        dense: Array = np.linalg.solve(matrix.reshape(count * m, count * m), force.ravel())
        return dense.reshape(count, m)
    back = np.swapaxes(onward[0::2], 1, 2)  # from an odd block to the even one before it
    ahead = onward[1::2]
    solved = np.linalg.solve(diagonal[1::2], np.concatenate([back, ahead, force[1::2, :, None]], axis=2))
    low, high = onward[0::2] @ solved, np.swapaxes(ahead, 1, 2) @ solved
    even = _cyclic(
        diagonal[0::2] - low[:, :, :m] - np.roll(high[:, :, m : 2 * m], 1, axis=0),
        -low[:, :, m : 2 * m],
        force[0::2] - low[:, :, -1] - np.roll(high[:, :, -1], 1, axis=0),
    )
    odd = (
        solved[:, :, -1]
        - np.einsum("nij,nj->ni", solved[:, :, :m], even)
        - np.einsum("nij,nj->ni", solved[:, :, m : 2 * m], np.roll(even, -1, axis=0))
    )
    result = np.empty_like(force)
    result[0::2], result[1::2] = even, odd
    return result
