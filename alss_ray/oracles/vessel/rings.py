"""Direct solution on a ring of elements by block cyclic reduction.

The unknowns of a closed ring of element columns couple only to the neighbouring columns. Element centres are
eliminated first, then the columns of mid-side nodes, all at once; then every second column of corner nodes, and so on,
each time as one batch of small dense systems. No sparse matrix is formed; the work is linear in the number of columns.
"""

from __future__ import annotations

import numpy as np

from .contours import Array
from .elements import Mesh

CENTRE = slice(8, 10)  # of the 18 unknowns of an element
BIG = 1e4  # a diagonal for pinned unknowns of the size of the other entries


def scatter(mesh: Mesh, vectors: Array) -> Array:
    """Element vectors [e, 18] summed into a nodal field [2 * around, 2 * across + 1, 2]."""
    total = np.zeros((2 * mesh.around, mesh.nodes.shape[1], 2))
    local = vectors.reshape(mesh.around, mesh.across, 3, 3, 2)
    for layer in range(mesh.across):
        rows = slice(2 * layer, 2 * layer + 3)
        total[0::2, rows] += local[:, layer, 0] + np.roll(local[:, layer, 2], 1, axis=0)
        total[1::2, rows] += local[:, layer, 1]
    return total


def solve_ring(mesh: Mesh, tangent: Array, force: Array, load: Array, pinned: list[tuple[int, int]]) -> Array:
    """The field u [2 * around, 2 * across + 1, 2] that solves K u = f, 0 at the ``pinned`` (even column, row) unknowns.

    K is the sum of the symmetric element matrices ``tangent`` [e, 18, 18], f that of the element vectors ``force``
    [e, 18] and of ``load`` [2 * around, 2] on the nodes of the lumen. Raises numpy.linalg.LinAlgError for a singular K.
    """
    around, across, m = mesh.around, mesh.across, 2 * mesh.nodes.shape[1]
    own, (tangent, force) = _without_centres(tangent, force)
    total = scatter(mesh, force)
    total[:, 0] += load
    corner, side, middle = _columns(mesh, tangent)
    solved, shares = _eliminate(middle, side, total[1::2, ::2].reshape(around, -1))
    corner -= shares[:, :, :-1]
    diagonal = corner[:, :m, :m] + np.roll(corner[:, m:, m:], 1, axis=0)
    onward = corner[:, :m, m:].copy()
    at_corners = total[0::2].reshape(around, m) - shares[:, :m, -1] - np.roll(shares[:, m:, -1], 1, axis=0)
    for column, row in pinned:
        i = column // 2
        diagonal[i, row], diagonal[i, :, row], diagonal[i, row, row] = 0.0, 0.0, BIG
        onward[i, row], onward[i - 1, :, row], at_corners[i, row] = 0.0, 0.0, 0.0
    corners = cyclic(diagonal, onward, at_corners)

    result = np.zeros((2 * around, 2 * across + 1, 2))
    result[0::2] = corners.reshape(around, -1, 2)
    result[1::2, ::2] = _between(solved, corners).reshape(around, -1, 2)
    centres = own[:, :, -1] - (own[:, :, :-1] @ mesh.local(result).reshape(-1, 18, 1))[:, :, 0]
    result[1::2, 1::2] = centres.reshape(around, across, 2)
    return result


def _without_centres(tangent: Array, force: Array) -> tuple[Array, tuple[Array, Array]]:
    """Element centres as [e, 2, 19]: what they are at rest of the others, and the element's matrix and vector."""
    coupling = tangent[:, CENTRE].copy()
    (a, b), (c, d) = np.moveaxis(tangent[:, CENTRE, CENTRE], 0, -1)
    inverse = np.moveaxis(np.array([[d, -b], [-c, a]]) / (a * d - b * c), -1, 0)
    own = inverse @ np.concatenate([coupling, force[:, CENTRE, None]], axis=2)
    shares = np.swapaxes(coupling, 1, 2) @ own
    return own, (tangent - shares[:, :, :-1], force - shares[:, :, -1])


def _columns(mesh: Mesh, tangent: Array) -> tuple[Array, Array, Array]:
    """Element matrices without centres summed over the layers.

    Corner nodes of both columns [around, 2 m, 2 m], mid-side nodes to corner nodes [around, k, 2 m] and mid-side nodes
    [around, k, k], with m and k unknowns in a column.
    """
    around, across, rows = mesh.around, mesh.across, mesh.nodes.shape[1]
    corner = np.zeros((around, 2, rows, 2, 2, rows, 2))
    side = np.zeros((around, across + 1, 2, 2, rows, 2))
    middle = np.zeros((around, across + 1, 2, across + 1, 2))
    local = tangent.reshape(around, across, 3, 3, 2, 3, 3, 2)
    for layer in range(across):
        three, two = slice(2 * layer, 2 * layer + 3), slice(layer, layer + 2)
        corner[:, :, three, :, :, three] += local[:, layer, ::2, :, :, ::2]
        side[:, two, :, :, three] += local[:, layer, 1, ::2, :, ::2]
        middle[:, two, :, two] += local[:, layer, 1, ::2, :, 1, ::2]
    m, k = 2 * rows, 2 * (across + 1)
    return corner.reshape(around, 2 * m, 2 * m), side.reshape(around, k, 2 * m), middle.reshape(around, k, k)


def _eliminate(block: Array, side: Array, force: Array) -> tuple[Array, Array]:
    """Eliminate unknowns between two neighbours: what gives them, and their shares in the neighbours' system.

    Blocks [n, k, k], their coupling to both neighbours [n, k, 2 m], force [n, k]: [n, k, 2 m + 1], [n, 2 m, 2 m + 1].
    """
    # Multiplying by the inverse is several times faster than a batch of solutions with many right sides.
    solved = np.linalg.inv(block) @ np.concatenate([side, force[:, :, None]], axis=2)
    return solved, np.swapaxes(side, 1, 2) @ solved


def _between(solved: Array, neighbours: Array) -> Array:
    """The eliminated unknowns [n, k] from those of the neighbours [n, m] before and after."""
    both = np.concatenate([neighbours, np.roll(neighbours, -1, axis=0)], axis=1)
    result: Array = solved[:, :, -1] - (solved[:, :, :-1] @ both[:, :, None])[:, :, 0]
    return result


def cyclic(diagonal: Array, onward: Array, force: Array) -> Array:
    """x [n, m] that solves the symmetric ring D_i x_i + U_i x_(i+1) + U_(i-1)^T x_(i-1) = f_i.

    Blocks D and U [n, m, m], f [n, m]. Raises numpy.linalg.LinAlgError for a singular matrix.
    """
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
    side = np.concatenate([np.swapaxes(onward[0::2], 1, 2), onward[1::2]], axis=2)
    solved, shares = _eliminate(diagonal[1::2], side, force[1::2])
    result = np.empty_like(force)
    result[0::2] = cyclic(
        diagonal[0::2] - shares[:, :m, :m] - np.roll(shares[:, m:, m:-1], 1, axis=0),
        -shares[:, :m, m:-1],
        force[0::2] - shares[:, :m, -1] - np.roll(shares[:, m:, -1], 1, axis=0),
    )
    result[1::2] = _between(solved, result[0::2])
    return result
