"""The whole solver against scikit-fem's Taylor-Hood elements on the same borders."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from alss_ray.oracles.vessel import Settings, solve
from alss_ray.oracles.vessel.elements import Mesh
from alss_ray.oracles.vessel.material import principal, von_mises
from alss_ray.oracles.vessel.recovery import Field

from .shapes import circle, coverage, random_wall

pytest.importorskip("skfem")


def eccentric() -> np.ndarray:
    return coverage(circle(24.0, (32.0, 32.0)), circle(12.0, (39.0, 34.0)), (64, 64))


def lobed() -> np.ndarray:
    rng = np.random.default_rng(0)
    while True:
        mask, kind = random_wall(rng)
        if kind == "fourier":
            return mask


@pytest.mark.parametrize(
    ("mask", "least"), [(eccentric(), 0.04), (lobed(), 0.12)], ids=["eccentric", "lobed"]
)
def test_taylor_hood_converges_to_the_same_displacement_and_stress(mask: np.ndarray, least: float) -> None:
    """Its principal stress is behind (the pressure is continuous and linear), but comes closer at second order."""
    from .taylor_hood import solve_taylor_hood

    solution = solve(mask, 0.1, Settings(elements_around=128, elements_across=16))
    field = Field(Mesh(solution.nodes), solution.gauss_stress)
    errors = []
    for every in (4, 2):
        nodes = solution.nodes[::every, ::every]
        points, moved, stress = solve_taylor_hood(nodes, 16.0)
        distance, which = cKDTree(nodes.reshape(-1, 2)).query(points)
        assert distance.max() < 1e-9
        expected = solution.displacement[::every, ::every].reshape(-1, 2)[which]
        place = np.stack(np.unravel_index(which, nodes.shape[:2]), axis=1) * every / 2.0
        ours = field(place)
        errors.append(
            [
                np.abs(fitted(points + moved, points + expected) - points - expected).max()
                / np.abs(expected).max()
            ]
            + [np.linalg.norm(f(stress) - f(ours)) / np.linalg.norm(f(ours)) for f in (von_mises, principal)]
        )
    coarse, fine = np.array(errors)
    assert (fine < (0.005, 0.5 * least, least)).all(), errors
    assert (fine < 0.5 * coarse).all(), errors


def test_the_lumen_border_carries_the_blood_pressure_and_the_outer_border_nothing() -> None:
    solution = solve(eccentric(), 0.1)
    nodes = solution.nodes
    field = Field(Mesh(nodes), solution.gauss_stress)
    columns = np.arange(len(nodes)) / 2.0
    for row, expected in ((0, -16.0), (nodes.shape[1] // 2, 0.0)):
        xx, yy, xy, _ = field(np.stack([columns, np.full_like(columns, row)], axis=1)).T
        least = 0.5 * (xx + yy) - np.hypot(0.5 * (xx - yy), xy)
        assert np.abs(least - expected).mean() < 0.5


def test_other_materials_and_pressures() -> None:
    """The neo-Hookean limit D1 = 0, at a pressure where the closed form of a circular tube is simple."""
    from .shapes import tube

    c1, spacing = 60.0, 5.0 / 128
    solution = solve(tube(128, 1.5, 2.2, spacing), spacing, Settings(pressure=10.0, c1=c1, D1=0.0))
    c = (solution.loaded_lumen_area - solution.lumen_area) / np.pi
    a, b = 1.5**2, 2.2**2
    pressure = c1 * (np.log(b * (a + c) / (a * (b + c))) + c / (a + c) - c / (b + c))
    assert pressure == pytest.approx(10.0, rel=2e-3)


def fitted(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``points`` turned and shifted onto ``target``."""
    a, b = (x[:, 0] + 1j * x[:, 1] for x in (points, target))
    turn = np.vdot(a - a.mean(), b - b.mean())
    z = (a - a.mean()) * turn / abs(turn) + b.mean()
    return np.stack([z.real, z.imag], axis=1)
