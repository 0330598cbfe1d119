"""The dynamic problem rho v_tt = div sigma under a pulsatile pressure (Mo et al. 2020, Appendix A.2, equation 4).

Implicit time steps of the generalised-alpha family with forces taken at the end of the step (Wood, Bossak and
Zienkiewicz 1980, doi:10.1002/nme.1620151011): second order, with damping of the highest frequencies only.
"""

from __future__ import annotations

import math

import numpy as np

from .contours import Array
from .elements import VALUES3, Mesh
from .material import Material
from .settings import Beat, Refused
from .statics import BALANCED, Equilibrium, Inertia, equilibrium, newton, residual


def pressure_at(time: float, systole: float, beat: Beat) -> float:
    """Blood pressure in kPa at ``time`` in s from the start of a beat."""
    phase = (time / beat.period) % 1.0
    way = phase / beat.peak if phase <= beat.peak else (1.0 - phase) / (1.0 - beat.peak)
    return beat.diastole + (systole - beat.diastole) * 0.5 * (1.0 - math.cos(math.pi * way))


def systole(
    nodes: Array, material: Material, pressure: float, beat: Beat, balanced: float = BALANCED
) -> Equilibrium:
    """The state at the last beat's peak ``pressure`` in kPa; raises Refused ('no convergence') if a step fails.

    The relative out-of-balance force is below ``balanced`` after every step.
    """
    start = equilibrium(nodes, material, beat.diastole, balanced)
    mesh, state = Mesh(nodes), start.state
    end = (beat.beats - 1 + beat.peak) * beat.period
    count = math.ceil(end / beat.period * beat.steps)
    step = end / count
    alpha = (beat.damping - 1.0) / (beat.damping + 1.0)
    gamma, beta = 0.5 - alpha, 0.25 * (1.0 - alpha) ** 2
    matrix = _mass(mesh) * (beat.density * (1.0 - alpha) / (beta * step**2))
    velocity = np.zeros_like(nodes)
    acceleration = np.zeros_like(nodes)
    total = 0
    for n in range(1, count + 1):
        ballistic = state.u + step * velocity + step**2 * (0.5 - beta) * acceleration
        inertia = Inertia(matrix, ballistic - alpha / (1.0 - alpha) * beta * step**2 * acceleration)
        load = pressure_at(n * step, pressure, beat) if n < count else pressure
        result = newton(mesh, state, material, load, inertia, balanced)
        if result is None:
            raise Refused(
                "no convergence", f"Newton's method stalled at {n * step:.3f} s and {load:.2f} kPa."
            )
        new, iterations = result
        total += iterations
        new_acceleration = (new.u - ballistic) / (beta * step**2)
        velocity = velocity + step * ((1.0 - gamma) * acceleration + gamma * new_acceleration)
        acceleration, state = new_acceleration, new
    return Equilibrium(state, (*start.iterations, total), residual(mesh, state, material, pressure, inertia))


def _mass(mesh: Mesh) -> Array:
    """Consistent mass [e, 18, 18] for unit density."""
    blocks = np.einsum("eg,gi,gj->eij", mesh.full.weights, VALUES3, VALUES3)
    return np.einsum("eij,ab->eiajb", blocks, np.eye(2)).reshape(-1, 18, 18)
