"""The dynamic option: against quasi-statics, and against the free oscillation of a tube."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alss_ray.oracles.vessel import Beat, Settings, solve
from alss_ray.oracles.vessel.contours import wall_from_mask
from alss_ray.oracles.vessel.dynamics import pressure_at, systole
from alss_ray.oracles.vessel.elements import Mesh
from alss_ray.oracles.vessel.grid import grid_for
from alss_ray.oracles.vessel.material import Material
from alss_ray.oracles.vessel.recovery import gauss_stress
from alss_ray.oracles.vessel.statics import equilibrium

from .shapes import random_wall
from .test_tube import INNER, OUTER, nodes


def test_the_waveform_runs_from_diastole_to_systole_and_back() -> None:
    beat = Beat()
    times = np.linspace(0.0, 2 * beat.period, 1001)
    values = np.array([pressure_at(t, 16.0, beat) for t in times])
    assert values.min() == pytest.approx(beat.diastole)
    assert values.max() == pytest.approx(16.0, abs=1e-3)
    assert times[values[:500].argmax()] == pytest.approx(beat.peak * beat.period, abs=2e-3)
    assert np.abs(np.diff(values)).max() < 0.06


def test_systolic_map_is_that_of_quasi_statics() -> None:
    mask, _ = random_wall(np.random.default_rng(1))
    settings = Settings(elements_around=32, elements_across=4)
    nodes = grid_for(wall_from_mask(mask, 0.1, settings.harmonics), settings).nodes(64, 8)
    mesh, material = Mesh(nodes), Material.of(settings)
    # Both far closer to balance than maps need, so that what is left is the work of inertia.
    static = equilibrium(nodes, material, 16.0, balanced=1e-10).state
    dynamic = systole(nodes, material, 16.0, Beat(steps=60), balanced=1e-10).state
    a, b = (gauss_stress(mesh, state, material) for state in (static, dynamic))
    # Nothing is held in the dynamic problem; the trace is blind to a turn of the whole wall.
    a, b = (stress[..., 0] + stress[..., 1] for stress in (a, b))
    difference = float(np.linalg.norm(b - a) / np.linalg.norm(a))
    assert 1e-9 < difference < 1e-6  # tiny in a beat of 0.8 s, and not nothing


def test_a_mask_can_be_mapped_at_the_peak_of_a_beat() -> None:
    mask, _ = random_wall(np.random.default_rng(1))
    small = Settings(elements_around=16, elements_across=2)
    static = solve(mask, 0.1, small).stress
    beat = solve(mask, 0.1, replace(small, beat=Beat(steps=40))).stress
    assert np.linalg.norm(beat - static) < 1e-3 * np.linalg.norm(static)


def test_a_heavy_tube_lags_behind_its_load() -> None:
    """Small strain, plane strain, incompressible: u = q(t) / R, one degree of freedom in closed form.

    rho ln(b / a) q_tt + 2 mu (1 / a^2 - 1 / b^2) q = P(t); for P rising as a half cosine at twice the natural frequency
    q at the peak is a third of its static value.
    """
    material = Material.of(Settings())
    density, pressure = 1e-2, 1e-3
    stiffness = 4.0 * material.at_rest * (1 / INNER**2 - 1 / OUTER**2)
    frequency = np.sqrt(stiffness / (density * np.log(OUTER / INNER)))
    beat = Beat(diastole=0.0, period=np.pi / frequency, peak=0.5, steps=200, density=density, damping=1.0)
    tube = nodes(16, 4)
    found = systole(tube, material, pressure, beat)
    q = float(np.mean(np.sum(found.state.u[:, 0] * tube[:, 0], axis=1)))
    assert q == pytest.approx(pressure / stiffness / 3.0, rel=0.01)


def test_senseless_beats_are_errors() -> None:
    for wrong in ({"period": 0.0}, {"peak": 1.0}, {"steps": 1}, {"damping": 2.0}, {"beats": 0}):
        with pytest.raises(ValueError, match="a beat needs"):
            Beat(**wrong)
