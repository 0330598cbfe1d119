"""The inflated tube in closed form, and Lame's solution at small strain."""

from __future__ import annotations

import numpy as np
import pytest

from alss_ray.oracles.vessel import Settings, solve
from alss_ray.oracles.vessel.elements import Mesh, lumen_area
from alss_ray.oracles.vessel.material import Material
from alss_ray.oracles.vessel.recovery import gauss_stress
from alss_ray.oracles.vessel.statics import equilibrium

from .closed_form import constant, hoop_minus_radial, radial
from .shapes import tube

INNER, OUTER, PRESSURE = 1.5, 2.2, 16.0


def nodes(around: int, across: int, inner: float = INNER, outer: float = OUTER) -> np.ndarray:
    angle = np.linspace(0.0, 2.0 * np.pi, 2 * around, endpoint=False)
    radius = inner * (outer / inner) ** np.linspace(0.0, 1.0, 2 * across + 1)
    return np.stack([np.cos(angle)[:, None] * radius, np.sin(angle)[:, None] * radius], axis=-1)


def gauss_radii(mesh: Mesh) -> np.ndarray:
    """Radius of the 2 x 2 Gauss points in the layout of ``gauss_stress``."""
    from alss_ray.oracles.vessel.elements import VALUES2

    at = np.linalg.norm(VALUES2 @ mesh.local(mesh.nodes), axis=-1)
    at = at.reshape(mesh.around, mesh.across, 2, 2).swapaxes(1, 2)
    return at.reshape(2 * mesh.around, 2 * mesh.across)


def tube_errors(around: int, across: int) -> tuple[float, float]:
    """Relative errors of c and of the von Mises stress at the Gauss points (largest), those of the mesh alone."""
    mesh = Mesh(nodes(around, across))
    material = Material.of(Settings())
    state = equilibrium(mesh.nodes, material, PRESSURE, balanced=1e-10).state
    c = constant(INNER, OUTER, PRESSURE)
    xx, yy, xy, _ = np.moveaxis(gauss_stress(mesh, state, material), -1, 0)
    found = 2.0 * np.hypot(0.5 * (xx - yy), xy)
    expected = hoop_minus_radial(gauss_radii(mesh), c)
    area = lumen_area(mesh, state.u) / np.pi - INNER**2
    return abs(area / c - 1.0), float(np.abs(found - expected).max() / expected.max())


def test_the_closed_form_gives_the_published_numbers() -> None:
    c = constant(INNER, OUTER, PRESSURE)
    assert c == pytest.approx(0.41132, abs=5e-6)
    assert np.sqrt(INNER**2 + c) - INNER == pytest.approx(0.13135, abs=5e-6)
    assert hoop_minus_radial(INNER, c) - PRESSURE == pytest.approx(66.81, abs=5e-3)
    assert hoop_minus_radial(OUTER, c) == pytest.approx(26.72, abs=5e-3)


def test_error_falls_at_the_order_of_the_elements() -> None:
    errors = np.array([tube_errors(n, m) for n, m in ((16, 2), (32, 4), (64, 8))])
    order = np.log2(errors[:-1] / errors[1:])
    assert order[:, 0].min() > 3.0, order  # displacement: 3 for quadratic elements, up to 4 at nodes
    assert order[:, 1].min() > 1.8, order  # stress at the Gauss points
    assert errors[-1, 0] < 1e-5
    assert errors[-1, 1] < 2e-3


def test_hoop_stress_and_radial_stress_of_a_mask() -> None:
    spacing = 5.0 / 256
    solution = solve(tube(256, INNER, OUTER, spacing), spacing, Settings(quantity="tensor"))
    c = constant(INNER, OUTER, PRESSURE)
    row = 128  # its centre is half a pixel below the axis, so that yy is the hoop stress but for 1e-4
    x = (np.arange(256) + 0.5) * spacing - 2.5
    wall = solution.stress[1, row] != 0
    inside = wall & (np.abs(x) > INNER + 2 * spacing) & (np.abs(x) < OUTER - 2 * spacing)
    radii = np.hypot(x[inside], 0.5 * spacing)
    sigma_r = np.array([radial(r, OUTER, c) for r in radii])
    sigma_t = sigma_r + hoop_minus_radial(radii, c)
    assert np.abs(solution.stress[1, row, inside] - sigma_t).max() < 0.01 * sigma_t.max()
    assert np.abs(solution.stress[0, row, inside] - sigma_r).max() < 0.01 * sigma_t.max()
    moved = np.hypot(*(solution.displacement[:, 0]).T)
    assert np.abs(moved - (np.sqrt(INNER**2 + c) - INNER)).max() < 2e-3


def test_small_strain_tends_to_lame() -> None:
    pressure = 1e-3
    mesh = Mesh(nodes(48, 6))
    material = Material.of(Settings())
    state = equilibrium(mesh.nodes, material, pressure).state
    xx, yy, xy, zz = np.moveaxis(gauss_stress(mesh, state, material), -1, 0)
    radius = gauss_radii(mesh)
    a = pressure * INNER**2 / (OUTER**2 - INNER**2)
    hoop = 0.5 * (xx + yy) + np.hypot(0.5 * (xx - yy), xy)
    assert np.abs(hoop - a * (1.0 + OUTER**2 / radius**2)).max() < 2e-3 * hoop.max()
    assert np.abs(zz - a).max() < 2e-3 * hoop.max()  # incompressible: the mean of hoop and radial stress
    shear = 2.0 * material.at_rest
    expected = pressure * INNER * OUTER**2 / (2.0 * shear * (OUTER**2 - INNER**2))
    moved = state.u - state.u[::2].mean(axis=(0, 1))
    assert np.hypot(*moved[:, 0].T).mean() == pytest.approx(expected, rel=1e-3)
