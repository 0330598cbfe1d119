"""Quasi-static equilibrium under the systolic pressure: Newton's method, from coarse meshes to the fine one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .contours import Array
from .elements import Mesh, State, advance, deformation, linearise, load, on_lumen
from .material import Material
from .rings import scatter, solve_ring
from .settings import Refused

COARSEST = 5  # node rows across the wall up to which no coarser mesh is solved first
MAX_ITERATIONS = 20
PATIENCE = 8  # iterations from which the steps must shrink
NEAR = 1e-2  # a step this small beside the largest displacement may be the last: the next would be about its square
BALANCED = 2e-4  # largest relative out-of-balance force; it moves the map by about a tenth of that
ROUGH = 5e-2  # the same where the state only starts a finer mesh
ROUNDING = 1e-11  # of the lumen's size: displacements below it are noise
SMALLEST_STEP = 1.0 / 16.0  # of the load


@dataclass(frozen=True)
class Equilibrium:
    """A converged state, the Newton iterations on each mesh (coarse to fine), and the relative residual force."""

    state: State
    iterations: tuple[int, ...]
    residual: float


@dataclass(frozen=True)
class Inertia:
    """The inertia of one time step as a spring between the displacement and a predicted one."""

    matrix: Array  # [e, 18, 18] kPa mm per mm
    predicted: Array  # [2 * around, 2 * across + 1, 2] mm

    def force(self, mesh: Mesh, u: Array) -> Array:
        """[e, 18]"""
        result: Array = np.einsum("eij,ej->ei", self.matrix, mesh.local(u - self.predicted).reshape(-1, 18))
        return result


def pins(mesh: Mesh) -> list[tuple[int, int]]:
    """Three lumen unknowns (column, row) that take the rigid motions; their reactions vanish.

    Both components of one node, and at the node across the lumen the component normal to the line between the two.
    """
    far = mesh.around - mesh.around % 2
    line = mesh.nodes[far, 0] - mesh.nodes[0, 0]
    return [(0, 0), (0, 1), (far, 1 if abs(line[0]) > abs(line[1]) else 0)]


def newton(
    mesh: Mesh,
    state: State,
    material: Material,
    pressure: float,
    inertia: Inertia | None = None,
    balanced: float = BALANCED,
) -> tuple[State, int] | None:
    """Newton's method at a fixed pressure in kPa; the state and the iterations, or None if it does not converge."""
    held = pins(mesh) if inertia is None else []
    moved = np.inf
    length = float(np.ptp(mesh.nodes[:, 0]))
    for iteration in range(1, MAX_ITERATIONS + 1):
        system = linearise(mesh, state, material)
        if inertia is not None:
            system.tangent += inertia.matrix
            system.force -= inertia.force(mesh, state.u)
        first, second = load(mesh, state.u)
        on_lumen(mesh, system.tangent)[...] -= pressure * second
        try:
            change = solve_ring(mesh, system.tangent, system.force, pressure * first, held)
        except np.linalg.LinAlgError:
            return None
        state = advance(mesh, state, system, change, material)
        before = moved
        moved, size = float(np.abs(change).max()), float(np.abs(state.u).max())
        if not np.isfinite(moved) or size > 10.0 * length or (iteration > PATIENCE and moved > before):
            return None
        # The Gauss-point unknown is kept in its range, so a small step alone does not prove equilibrium.
        small = moved <= max(NEAR * size, ROUNDING * length)
        if small and residual(mesh, state, material, pressure, inertia) < balanced:
            return state, iteration
    return None


def equilibrium(nodes: Array, material: Material, pressure: float, balanced: float = BALANCED) -> Equilibrium:
    """Solve on the mesh of ``nodes`` [2 * around, 2 * across + 1, 2], starting from its every second node.

    The relative out-of-balance force is below ``balanced`` at the end. Raises Refused ('no convergence') when the load
    steps have been halved below ``SMALLEST_STEP``.
    """
    levels = [nodes]
    while levels[0].shape[1] % 4 == 1 and levels[0].shape[1] > COARSEST and levels[0].shape[0] % 4 == 0:
        levels.insert(0, levels[0][::2, ::2])
    known: tuple[Mesh, State] | None = None  # of the next coarser level
    counts = []
    for level in levels:
        try:
            mesh = Mesh(level)
        except ValueError:
            known = None
            continue
        start = mesh.rest(material) if known is None else _refined(*known, mesh, material)
        result = newton(mesh, start, material, pressure, balanced=balanced if level is nodes else ROUGH)
        if result is None and level is nodes:
            result = _in_steps(mesh, material, pressure, balanced)
        known = None if result is None else (mesh, result[0])
        counts.append(MAX_ITERATIONS if result is None else result[1])
    if known is None:
        raise Refused("no convergence", "The mesh of this wall has a folded element.")
    mesh, state = known
    return Equilibrium(state, tuple(counts), residual(mesh, state, material, pressure))


def _in_steps(mesh: Mesh, material: Material, pressure: float, balanced: float) -> tuple[State, int]:
    """Raise the load in steps from the unloaded wall, halving a step that fails."""
    state, reached, step, total = mesh.rest(material), 0.0, 0.5, 0
    while reached < 1.0:
        target = min(1.0, reached + step)
        result = newton(mesh, state, material, target * pressure, balanced=balanced)
        if result is None:
            step *= 0.5
            if step < SMALLEST_STEP:
                raise Refused(
                    "no convergence",
                    f"Newton's method stalled at {reached * pressure:.2f} of {pressure:g} kPa.",
                )
        else:
            state, reached, total = result[0], target, total + result[1]
    return state, total


def residual(
    mesh: Mesh, state: State, material: Material, pressure: float, inertia: Inertia | None = None
) -> float:
    """Largest nodal out-of-balance force over the largest nodal load, and at least the largest mean of |J - 1|.

    Loads under a millionth of the wall's stiffness count as that much, for the sake of rounding.
    Uses the stress of the displacement itself, not the Gauss-point unknown s.
    """
    q = mesh.full
    gradient = deformation(mesh, state.u, q)
    (a, b), (c, d) = np.moveaxis(gradient, (-2, -1), (0, 1))
    slope = material.slope(a * a + b * b + c * c + d * d - 2.0)
    p = np.einsum("egk,ek->eg", q.basis, state.p)
    cofactor = np.stack([np.stack([d, -c], -1), np.stack([-b, a], -1)], -2)
    stress = (
        2.0 * (slope * q.weights)[..., None, None] * gradient + (p * q.weights)[..., None, None] * cofactor
    )
    local = np.einsum("egij,egjn->eni", stress, q.gradients).reshape(-1, 18)
    force = scatter(mesh, local if inertia is None else local + inertia.force(mesh, state.u))
    first, _ = load(mesh, state.u)
    force[:, 0] -= pressure * first
    area = np.abs(np.sum(q.weights * (a * d - b * c - 1.0), axis=1)) / mesh.area
    scale = max(pressure, 1e-6 * material.at_rest) * float(np.abs(first).max())
    return max(float(np.abs(force).max()) / scale, float(area.max()))


def _refined(coarse: Mesh, state: State, fine: Mesh, material: Material) -> State:
    """The coarse state on a mesh with twice the elements each way, as a first guess."""
    u = state.u
    for axis, closed in ((0, True), (1, False)):
        u = np.moveaxis(u, axis, 0)
        if closed:
            u = np.concatenate([u, u[:1]])
        a, b, c = u[:-2:2], u[1:-1:2], u[2::2]
        out = np.empty((2 * len(u) - 1, *u.shape[1:]))
        out[0::2] = u
        out[1::4] = 0.375 * a + 0.75 * b - 0.125 * c
        out[3::4] = -0.125 * a + 0.75 * b + 0.375 * c
        u = np.moveaxis(out[:-1] if closed else out, 0, axis)
    parent = (np.arange(fine.around)[:, None] // 2 * coarse.across + np.arange(fine.across) // 2).ravel()
    slopes = state.p[parent, 1:] / coarse.size[parent, None]
    p = np.empty((len(parent), 3))
    p[:, 0] = state.p[parent, 0] + np.sum(slopes * (fine.centre - coarse.centre[parent]), axis=1)
    p[:, 1:] = slopes * fine.size[:, None]
    gradient = deformation(fine, u, fine.full)
    stretch = np.clip(np.sum(gradient**2, axis=(-2, -1)) - 2.0, 0.0, 1.5 * _largest(coarse, state))
    return State(u, p, material.slope(stretch))


def _largest(mesh: Mesh, state: State) -> float:
    gradient = deformation(mesh, state.u, mesh.full)
    return float(np.max(np.sum(gradient**2, axis=(-2, -1)) - 2.0))
