"""Q2/P-1 elements on an O-grid: residual and tangent of the wall, with the pressure condensed element by element.

Energy: sum over the wall of W + p (J - 1), minus P times the lumen's area; its second derivative is symmetric and the
part of the follower load constant.

Two local fields are unknowns beside the displacement and go with it in every Newton step: the pressure p, linear in
each element, and s = W' at every Gauss point. Iterating on s, whose logarithm measures strain, keeps Newton's method
from overshooting in the exponential (mixed integration points, Magisano et al. 2017, doi:10.1002/nme.5370).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .contours import Array
from .material import Material

BULK = (
    1e4  # stiffness against a change of area over the shear modulus, in the tangent only; J = 1 holds exactly
)

STIFFER = 1.5


def shape(points: Array) -> tuple[Array, Array]:
    """Quadratic shape functions [n, 3] at ``points`` [n] of [-1, 1], nodes at -1, 0, 1, and their derivatives."""
    r = points[:, None]
    values = np.concatenate([0.5 * r * (r - 1), 1 - r * r, 0.5 * r * (r + 1)], axis=1)
    slopes = np.concatenate([r - 0.5, -2 * r, r + 0.5], axis=1)
    return values, slopes


def _tensor(points: Array) -> tuple[Array, Array]:
    """Shape functions [n * n, 9] and derivatives [n * n, 2, 9] at the tensor grid of ``points`` [n]."""
    v, d = shape(points)
    count = len(points) ** 2

    def product(a: Array, b: Array) -> Array:
        return np.einsum("ia,jb->ijab", a, b).reshape(count, 9)

    return product(v, v), np.stack([product(d, v), product(v, d)], axis=1)


GAUSS2 = np.array([-1.0, 1.0]) / np.sqrt(3.0)
GAUSS3 = np.array([-1.0, 0.0, 1.0]) * np.sqrt(0.6)
WEIGHTS3 = np.outer([5, 8, 5], [5, 8, 5]).ravel() / 81.0
VALUES3, SLOPES3 = _tensor(GAUSS3)
VALUES2, SLOPES2 = _tensor(GAUSS2)
_EDGE = np.einsum("g,gi,gj->ij", np.array([5, 8, 5]) / 9.0, *shape(GAUSS3))  # integral of N_i dN_j


@dataclass
class State:
    """Unknowns: displacement u [2 * around, 2 * across + 1, 2] mm, p [e, 3] and s [e, 9] kPa."""

    u: Array
    p: Array
    s: Array


@dataclass(frozen=True)
class Quadrature:
    """Gradients [e, g, 2, 9] of the shape functions, area weights [e, g] and pressure basis [e, g, 3]."""

    gradients: Array
    weights: Array
    basis: Array


class Mesh:
    """Q2 elements on nodes X [2 * around, 2 * across + 1, 2] in mm; element e = column * across + layer.

    Raises ValueError if an element is folded at one of the 3 x 3 Gauss points of the forces or the 2 x 2 of the stress.
    """

    def __init__(self, nodes: Array) -> None:
        self.nodes = nodes
        self.around, self.across = nodes.shape[0] // 2, nodes.shape[1] // 2
        column = (2 * np.arange(self.around)[:, None, None, None] + np.arange(3)[:, None]) % (2 * self.around)
        layer = 2 * np.arange(self.across)[:, None, None] + np.arange(3)
        self.index = (column * nodes.shape[1] + layer).reshape(-1, 9)
        corners = self.local(nodes)
        self.centre = corners[:, 4]
        self.size = np.hypot(*(corners[:, 8] - corners[:, 0]).T)
        self.full = self.quadrature(VALUES3, SLOPES3, WEIGHTS3)
        self.reduced = self.quadrature(VALUES2, SLOPES2, np.ones(4))
        self.area = self.full.weights.sum(axis=1)
        self.weighted = np.swapaxes(self.full.basis * self.full.weights[..., None], 1, 2)
        self.inverse_gram = np.linalg.inv(self.weighted @ self.full.basis)

    def local(self, field: Array) -> Array:
        """Values [e, 9, ...] at the nodes of every element."""
        gathered: Array = field.reshape(-1, *field.shape[2:])[self.index]
        return gathered

    def quadrature(self, values: Array, slopes: Array, weights: Array) -> Quadrature:
        x = self.local(self.nodes)
        at = values @ x
        # [(x, y) by (xi, eta)][e, g]
        (a, c), (b, d) = np.moveaxis(
            (slopes.reshape(-1, 9) @ x).reshape(*at.shape[:2], 2, 2), (-2, -1), (0, 1)
        )
        det = b * c - a * d  # xi runs counter-clockwise, eta outward: the map turns orientation over
        if det.min() <= 0:
            raise ValueError("folded element")
        gradients = np.empty((*at.shape[:2], 2, 9))
        along, across = slopes[:, 0], slopes[:, 1]
        gradients[:, :, 0] = (c / det)[..., None] * across - (d / det)[..., None] * along
        gradients[:, :, 1] = (b / det)[..., None] * along - (a / det)[..., None] * across
        basis = np.concatenate(
            [np.ones((*at.shape[:2], 1)), (at - self.centre[:, None]) / self.size[:, None, None]], axis=2
        )
        return Quadrature(gradients, det * weights, basis)

    def rest(self, material: Material) -> State:
        """The unloaded wall, with s as in a moderately strained one, which tempers the first Newton step."""
        p = np.zeros((len(self.index), 3))
        p[:, 0] = -2.0 * material.at_rest
        s = material.at_rest * (STIFFER if material.stiffens else 1.0)
        return State(np.zeros_like(self.nodes), p, np.full((len(self.index), 9), s))


def deformation(mesh: Mesh, u: Array, quadrature: Quadrature) -> Array:
    """F [e, g, 2, 2] with F[..., i, j] = dx_i / dX_j."""
    return gradient_of(mesh, u, quadrature) + np.eye(2)


def gradient_of(mesh: Mesh, u: Array, quadrature: Quadrature) -> Array:
    """du_i / dX_j [e, g, 2, 2] of a nodal field u."""
    count, points = quadrature.weights.shape
    slopes = quadrature.gradients.reshape(count, 2 * points, 9) @ mesh.local(u)
    result: Array = np.swapaxes(slopes.reshape(count, points, 2, 2), -1, -2)
    return result


@dataclass
class Linear:
    """One Newton system: condensed tangent K [e, 18, 18], right side f [e, 18], and what recovers p and s."""

    tangent: Array
    force: Array
    volume: Array  # B [e, 3, 18]: derivative of the integral of basis * (J - 1)
    excess: Array  # [e, 3]: that integral
    stiff: Array  # [e, 3, 3]: bulk stiffness in the pressure basis
    gradient: Array  # F
    gap: Array  # I1 - 3 - stretch(s)
    bend: Array  # W''


def linearise(mesh: Mesh, state: State, material: Material) -> Linear:
    """The tangent and the out-of-balance force of the wall (without the load) at ``state``."""
    q = mesh.full
    gradient = deformation(mesh, state.u, q)
    (a, b), (c, d) = np.moveaxis(gradient, (-2, -1), (0, 1))
    stretch = a * a + b * b + c * c + d * d - 2.0
    bend = material.curvature(state.s)
    gap = stretch - material.stretch(state.s) if material.stiffens else np.zeros_like(stretch)
    slope = state.s + bend * gap
    pressure = (q.basis @ state.p[..., None])[..., 0] * q.weights

    # Rows [e, g, (n, i)]: half the derivative of I1, and that of J, with respect to the nodal displacements.
    count = len(mesh.index)
    dx, dy = q.gradients[:, :, 0], q.gradients[:, :, 1]
    strain, growth = np.empty((2, count, 9, 9, 2))
    for rows, (along_x, along_y) in ((strain, ((a, c), (b, d))), (growth, ((d, -b), (-c, a)))):
        for i in range(2):
            rows[..., i] = along_x[i][..., None] * dx + along_y[i][..., None] * dy
    strain, growth = strain.reshape(count, 9, 18), growth.reshape(count, 9, 18)

    w = q.weights[..., None]
    force = (2.0 * slope * q.weights)[:, None] @ strain + pressure[:, None] @ growth
    volume = mesh.weighted @ growth
    excess = (mesh.weighted @ (a * d - b * c - 1.0)[..., None])[..., 0]
    stiff = (2.0 * BULK * material.at_rest) * mesh.inverse_gram
    pushed = stiff @ volume

    # dP_ij / dF_kl = 2 s d_ik d_jl + 4 W'' F_ij F_kl + p d2J / dF_ij dF_kl
    tangent = (
        np.swapaxes(strain, 1, 2) @ (4.0 * bend[..., None] * w * strain) + np.swapaxes(volume, 1, 2) @ pushed
    )
    by_node = tangent.reshape(count, 9, 2, 9, 2)
    flat = q.gradients.reshape(count, 18, 9)
    weight = np.repeat(2.0 * state.s * q.weights, 2, axis=1)[..., None]
    equal = np.swapaxes(flat, 1, 2) @ (weight * flat)
    by_node[:, :, 0, :, 0] += equal
    by_node[:, :, 1, :, 1] += equal
    turned = np.swapaxes(dx, 1, 2) @ (pressure[..., None] * dy)
    turned = turned - np.swapaxes(turned, 1, 2)
    by_node[:, :, 0, :, 1] += turned
    by_node[:, :, 1, :, 0] -= turned
    residual = force[:, 0] + (excess[:, None] @ pushed)[:, 0]
    return Linear(tangent, -residual, volume, excess, stiff, gradient, gap, bend)


def advance(mesh: Mesh, state: State, system: Linear, change: Array, material: Material) -> State:
    """The state after the displacement ``change`` of a Newton step."""
    local = mesh.local(change)
    p = state.p + np.einsum(
        "ekl,el->ek",
        system.stiff,
        system.excess + np.einsum("eki,ei->ek", system.volume, local.reshape(-1, 18)),
    )
    growth = 2.0 * np.sum(system.gradient * gradient_of(mesh, change, mesh.full), axis=(-2, -1))
    s = state.s + system.bend * (system.gap + growth)
    return State(state.u + change, p, np.maximum(s, material.c1 + 0.5 * (material.at_rest - material.c1)))


def on_lumen(mesh: Mesh, matrices: Array) -> Array:
    """The entries of element matrices [e, 18, 18] between lumen nodes, as a view [around, 3, 2, 3, 2]."""
    view: Array = matrices.reshape(mesh.around, mesh.across, 3, 3, 2, 3, 3, 2)[:, 0, :, 0, :, :, 0]
    return view


def load(mesh: Mesh, u: Array) -> tuple[Array, Array]:
    """Derivatives of the lumen's area: first [2 * around, 2] on lumen nodes, second [3, 2, 3, 2] for every edge."""
    at = (mesh.nodes + u)[:, 0]
    edges = at[(2 * np.arange(mesh.around)[:, None] + np.arange(3)) % len(at)]
    skew = 0.5 * (_EDGE - _EDGE.T)  # area = sum over edges of x_i skew_ij y_j
    first = np.zeros_like(at)
    per_edge = np.stack([edges[:, :, 1] @ skew.T, edges[:, :, 0] @ skew], axis=2)
    for n in range(3):
        first[(2 * np.arange(mesh.around) + n) % len(at)] += per_edge[:, n]
    second = np.zeros((3, 2, 3, 2))
    second[:, 0, :, 1] = skew
    second[:, 1, :, 0] = skew.T
    return first, second


def lumen_area(mesh: Mesh, u: Array) -> float:
    """Area in mm^2 of the lumen displaced by ``u``."""
    return 0.5 * float(np.sum(load(mesh, u)[0] * (mesh.nodes + u)[:, 0]))
