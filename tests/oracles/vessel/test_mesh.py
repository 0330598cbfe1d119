"""Consistency of the tangent, the load and the ring solver; grids of odd walls."""

from __future__ import annotations

import numpy as np
import pytest

from alss_ray.oracles.vessel import Settings
from alss_ray.oracles.vessel.contours import wall_from_mask
from alss_ray.oracles.vessel.elements import (
    SLOPES2,
    SLOPES3,
    Mesh,
    State,
    deformation,
    linearise,
    load,
    lumen_area,
    on_lumen,
)
from alss_ray.oracles.vessel.grid import grid_for
from alss_ray.oracles.vessel.material import Material
from alss_ray.oracles.vessel.rings import scatter, solve_ring

from .shapes import coverage, random_borders, random_wall
from .test_tube import nodes

MATERIAL = Material.of(Settings())


def energy(mesh: Mesh, u: np.ndarray, p: np.ndarray, pressure: float) -> float:
    """The potential of the whole problem, written out from its definition."""
    f = deformation(mesh, u, mesh.full)
    stretch = np.sum(f**2, axis=(-2, -1)) - 2.0
    w = MATERIAL.c1 * stretch + MATERIAL.D1 * (np.exp(MATERIAL.D2 * stretch) - 1.0)
    constraint = np.einsum("egk,ek->eg", mesh.full.basis, p) * (np.linalg.det(f) - 1.0)
    return float(np.sum(mesh.full.weights * (w + constraint))) - pressure * lumen_area(mesh, u)


@pytest.fixture
def deformed() -> tuple[Mesh, State]:
    """A mesh in an arbitrary state whose Gauss-point unknown agrees with its displacement."""
    rng = np.random.default_rng(3)
    mesh = Mesh(nodes(8, 2))
    u = 0.01 * rng.normal(size=mesh.nodes.shape)
    p = mesh.rest(MATERIAL).p + rng.normal(size=(16, 3))
    stretch = np.sum(deformation(mesh, u, mesh.full) ** 2, axis=(-2, -1)) - 2.0
    return mesh, State(u, p, MATERIAL.slope(stretch))


def test_force_is_the_slope_of_the_energy(deformed: tuple[Mesh, State]) -> None:
    mesh, state = deformed
    direction = np.random.default_rng(4).normal(size=mesh.nodes.shape)
    system = linearise(mesh, state, MATERIAL)
    # The condensed force holds the step of the pressure towards J = 1; take that part off again.
    push = np.einsum("eki,ekl,el->ei", system.volume, system.stiff, system.excess)
    force = scatter(mesh, system.force + push)
    force[:, 0] += 16.0 * load(mesh, state.u)[0]
    step = 1e-6
    slope = (
        energy(mesh, state.u + step * direction, state.p, 16.0)
        - energy(mesh, state.u - step * direction, state.p, 16.0)
    ) / (2 * step)
    assert -np.sum(force * direction) == pytest.approx(slope, rel=1e-7)


def test_tangent_is_the_slope_of_the_force(deformed: tuple[Mesh, State]) -> None:
    mesh, state = deformed
    direction = np.random.default_rng(5).normal(size=mesh.nodes.shape)

    def force(u: np.ndarray) -> np.ndarray:
        stretch = np.sum(deformation(mesh, u, mesh.full) ** 2, axis=(-2, -1)) - 2.0
        system = linearise(mesh, State(u, state.p, MATERIAL.slope(stretch)), MATERIAL)
        push = np.einsum("eki,ekl,el->ei", system.volume, system.stiff, system.excess)
        total = scatter(mesh, system.force + push)
        total[:, 0] += 16.0 * load(mesh, u)[0]
        return total

    system = linearise(mesh, state, MATERIAL)
    pure = system.tangent - np.swapaxes(system.volume, 1, 2) @ system.stiff @ system.volume
    loaded = pure.copy()
    on_lumen(mesh, loaded)[...] -= 16.0 * load(mesh, state.u)[1]
    product = scatter(mesh, (loaded @ mesh.local(direction).reshape(-1, 18, 1))[:, :, 0])
    step = 1e-6
    slope = (force(state.u + step * direction) - force(state.u - step * direction)) / (2 * step)
    assert np.abs(product + slope).max() < 1e-6 * np.abs(product).max()
    assert np.abs(pure - np.swapaxes(pure, 1, 2)).max() < 1e-9 * np.abs(pure).max()


def test_a_fold_that_only_the_points_of_the_stress_see_is_found() -> None:
    plain = nodes(8, 2)
    mesh = Mesh(plain)
    bent = plain.copy()
    bent[1, 1, 1] += 0.28  # the node in the middle of an element

    def smallest(slopes: np.ndarray) -> float:
        by = (slopes.reshape(-1, 9) @ mesh.local(bent)).reshape(len(mesh.index), -1, 2, 2)
        return float((-np.linalg.det(by)).min())

    assert smallest(SLOPES2) < 0 < smallest(SLOPES3)
    with pytest.raises(ValueError, match="folded element"):
        Mesh(bent)


@pytest.mark.parametrize(("around", "across"), [(3, 2), (5, 3), (8, 2), (12, 1), (40, 2)])
def test_ring_solver_against_a_dense_one(around: int, across: int) -> None:
    rng = np.random.default_rng(around)
    mesh = Mesh(nodes(around, across))
    half = rng.normal(size=(around * across, 18, 18))
    tangent = half @ np.swapaxes(half, 1, 2) + 5.0 * np.eye(18)
    force, load = rng.normal(size=(around * across, 18)), rng.normal(size=(2 * around, 2))
    unknown = (2 * mesh.index[:, :, None] + np.arange(2)).reshape(-1, 18)
    matrix, total = np.zeros((2 * mesh.nodes[..., 0].size,) * 2), np.zeros_like(mesh.nodes)
    for element, which in enumerate(unknown):
        matrix[np.ix_(which, which)] += tangent[element]
        total.ravel()[which] += force[element]
    total[:, 0] += load
    m = 2 * (2 * across + 1)
    held = [0, 1, 2 * m + 1]
    free = np.setdiff1d(np.arange(len(matrix)), held)
    expected = np.zeros(len(matrix))
    expected[free] = np.linalg.solve(matrix[np.ix_(free, free)], total.ravel()[free])
    found = solve_ring(mesh, tangent, force, load, [(0, 0), (0, 1), (2, 1)])
    assert np.abs(found.ravel() - expected).max() < 1e-9 * np.abs(expected).max()


def test_grids_of_odd_walls_do_not_fold_and_end_on_the_borders() -> None:
    rng = np.random.default_rng(11)
    for _ in range(12):
        while True:
            outer, lumen, kind = random_borders(rng)
            if kind in ("bean", "crescent"):
                break
        wall = wall_from_mask(coverage(outer, lumen, (64, 64)), 1.0, 24)
        mesh = Mesh(grid_for(wall, Settings()).nodes(256, 16))  # raises if folded
        area = _polygon_area(wall.outer) - _polygon_area(wall.lumen)
        assert mesh.area.sum() == pytest.approx(area, rel=2e-3)


def _polygon_area(curve) -> float:
    x, y = curve(np.linspace(0.0, 1.0, 4000, endpoint=False)).T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def test_borders_of_a_grey_circle_are_found_within_a_thirtieth_of_a_pixel() -> None:
    rng = np.random.default_rng(2)
    from .shapes import circle

    for _ in range(5):
        centre = tuple(32.0 + rng.uniform(-1, 1, size=2))
        inner, outer = rng.uniform(6, 12), rng.uniform(18, 26)
        wall = wall_from_mask(coverage(circle(outer, centre), circle(inner, centre), (64, 64)), 1.0, 24)
        t = np.linspace(0.0, 1.0, 500)
        for curve, radius in ((wall.lumen, inner), (wall.outer, outer)):
            assert np.abs(np.hypot(*(curve(t) - centre).T) - radius).max() < 1 / 30
        assert wall.thinnest == pytest.approx(outer - inner, abs=0.04)


def test_random_walls_all_get_a_grid() -> None:
    rng = np.random.default_rng(8)
    for _ in range(40):
        mask, _ = random_wall(rng)
        assert grid_for(wall_from_mask(mask, 1.0, 24), Settings()).nodes(16, 4).shape == (16, 5, 2)
