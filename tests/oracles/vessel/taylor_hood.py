"""The same boundary-value problem by scikit-fem: Taylor-Hood triangles, plain Newton, load written as a traction.

Shares no formula with the package but the strain energy, which is typed again here.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import bmat
from scipy.spatial import cKDTree
from skfem import (
    Basis,
    BilinearForm,
    ElementTriP1,
    ElementTriP2,
    ElementVector,
    FacetBasis,
    LinearForm,
    MeshTri,
    MeshTri2,
    asm,
    condense,
    solve,
)
from skfem.helpers import ddot, dot, grad, identity, mul, transpose

from .closed_form import C1, D1, D2


def triangles(nodes: np.ndarray) -> MeshTri2:
    """Curved six-node triangles, two to every 3 x 3 patch of a lattice [2 * around, 2 * across + 1, 2]."""
    around, rows = nodes.shape[0] // 2, nodes.shape[1] // 2 + 1
    corner = np.arange(around * rows).reshape(around, rows)
    a, b = corner[:, :-1].ravel(), np.roll(corner, -1, axis=0)[:, :-1].ravel()
    c, d = np.roll(corner, -1, axis=0)[:, 1:].ravel(), corner[:, 1:].ravel()
    flat = MeshTri(
        nodes[::2, ::2].reshape(-1, 2).T.copy(), np.hstack([np.stack([a, b, d]), np.stack([b, c, d])])
    )
    curved = MeshTri2.from_mesh(flat)
    # Straight mid-side nodes move to the lattice node between their two corners.
    places = np.stack(np.meshgrid(2 * np.arange(around), 2 * np.arange(rows), indexing="ij"), -1).reshape(
        -1, 2
    )
    ends = places[flat.facets]
    wrapped = np.abs(ends[0, :, 0] - ends[1, :, 0]) > around
    ends[:, :, 0] += np.where(wrapped & (ends[:, :, 0] == 0), 2 * around, 0)
    middle = (ends[0] + ends[1]) // 2
    straight = flat.p[:, flat.facets].mean(axis=1).T
    target = np.vstack([flat.p.T, nodes[middle[:, 0] % (2 * around), middle[:, 1]]])
    _, source = cKDTree(np.vstack([flat.p.T, straight])).query(curved.doflocs.T)
    return MeshTri2(target[source].T.copy(), curved.t)


def _parts(w) -> tuple:
    f = grad(w["u"]) + identity(w["u"])
    cofactor = np.array([[f[1, 1], -f[1, 0]], [-f[0, 1], f[0, 0]]])
    stretch = ddot(f, f) - 2.0
    exponential = D1 * D2 * np.exp(np.minimum(D2 * stretch, 50.0))
    return f, cofactor, C1 + exponential, D2 * exponential


def _cof(g: np.ndarray) -> np.ndarray:
    return np.array([[g[1, 1], -g[1, 0]], [-g[0, 1], g[0, 0]]])


@BilinearForm
def _stiffness(u, v, w):
    f, _, first, second = _parts(w)
    return (
        2 * first * ddot(grad(u), grad(v))
        + 4 * second * ddot(f, grad(u)) * ddot(f, grad(v))
        + w["p"] * ddot(_cof(grad(u)), grad(v))
    )


@BilinearForm
def _coupling(u, q, w):
    return q * ddot(_parts(w)[1], grad(u))


@LinearForm
def _force(v, w):
    f, cofactor, first, _ = _parts(w)
    return ddot(2 * first * f + w["p"] * cofactor, grad(v))


@LinearForm
def _area(q, w):
    f = _parts(w)[0]
    return q * (f[0, 0] * f[1, 1] - f[0, 1] * f[1, 0] - 1.0)


@LinearForm
def _traction(v, w):
    return -w["load"] * dot(mul(_parts(w)[1], w.n), v)


@BilinearForm
def _traction_slope(u, v, w):
    return -w["load"] * dot(mul(_cof(grad(u)), w.n), v)


def solve_taylor_hood(nodes: np.ndarray, pressure: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes [n, 2], displacement [n, 2] and projected Cauchy stress [n, 4] (xx, yy, xy, zz) at the nodes.

    Raises RuntimeError where Newton's method fails however small the load steps.
    """
    mesh = triangles(nodes)
    basis = Basis(mesh, ElementVector(ElementTriP2()), intorder=5)
    pressures = basis.with_element(ElementTriP1())
    lumen = np.flatnonzero((mesh.facets % (nodes.shape[1] // 2 + 1) == 0).all(axis=0))
    edge = FacetBasis(mesh, ElementVector(ElementTriP2()), facets=lumen, intorder=5)
    near, far = (int(cKDTree(basis.doflocs.T[::2]).query(nodes[k, 0])[1]) for k in (0, len(nodes) // 2))
    line = np.abs(nodes[len(nodes) // 2, 0] - nodes[0, 0])
    held = np.array([2 * near, 2 * near + 1, 2 * far + (1 if line[0] > line[1] else 0)])

    def newton(x: np.ndarray, load: float) -> np.ndarray | None:
        for _ in range(12):
            fields = {"u": basis.interpolate(x[: basis.N]), "p": pressures.interpolate(x[basis.N :])}
            on_edge = {"u": edge.interpolate(x[: basis.N]), "load": load}
            k = asm(_stiffness, basis, **fields) - asm(_traction_slope, edge, **on_edge)
            b = asm(_coupling, basis, pressures, **fields)
            rhs = -np.concatenate(
                [
                    asm(_force, basis, **fields) - asm(_traction, edge, **on_edge),
                    asm(_area, pressures, **fields),
                ]
            )
            step = solve(*condense(bmat([[k, b.T], [b, None]]).tocsc(), rhs, D=held))
            x = x + step
            moved, size = np.abs(step[: basis.N]).max(), np.abs(x[: basis.N]).max()
            if not moved < 10.0 * np.ptp(nodes):
                return None
            if moved < 1e-6 * size:
                return x
        return None

    x = np.concatenate([np.zeros(basis.N), np.full(pressures.N, -2.0 * (C1 + D1 * D2))])
    reached, share = 0.0, 0.25
    while reached < 1.0:
        found = newton(x, pressure * min(1.0, reached + share))
        if found is not None:
            x, reached = found, min(1.0, reached + share)
        elif (share := share / 2) < 1 / 128:
            raise RuntimeError(f"Newton's method stalled at {reached:.3f} of the load")
    scalar = basis.with_element(ElementTriP2())
    w = {"u": basis.interpolate(x[: basis.N])}
    f, _, first, _ = _parts(w)
    p = pressures.interpolate(x[basis.N :])
    b = mul(f, transpose(f))
    jacobian = f[0, 0] * f[1, 1] - f[0, 1] * f[1, 0]
    sigma = [
        2 * first * b[0, 0] / jacobian + p,
        2 * first * b[1, 1] / jacobian + p,
        2 * first * b[0, 1] / jacobian,
        2 * first / jacobian + p,
    ]
    stress = np.stack([scalar.project(np.asarray(component)) for component in sigma], axis=1)
    return scalar.doflocs.T, x[: basis.N].reshape(-1, 2), stress
