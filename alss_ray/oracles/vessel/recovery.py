"""Stress at the pixels: sampled where the elements are most accurate, interpolated by cubic splines along the grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from .contours import Array
from .elements import GAUSS2, Mesh, State, deformation, shape
from .material import Material

FINER = 4  # uniform samples per element on which the splines are tabulated
SEEDS = 4  # starting points per element for the search of a pixel's place in the grid
NEWTON_STEPS = 8
CLOSE = 1e-3  # of an element: accuracy of a pixel's place in the grid


def gauss_stress(mesh: Mesh, state: State, material: Material) -> Array:
    """Cauchy stress [2 * around, 2 * across, 4] (xx, yy, xy, zz) in kPa at the 2 x 2 Gauss points of the elements."""
    q = mesh.reduced
    pressure = np.einsum("egk,ek->eg", q.basis, state.p)
    stress = material.cauchy(deformation(mesh, state.u, q), pressure)
    grid = stress.reshape(mesh.around, mesh.across, 2, 2, 4).swapaxes(1, 2)
    result: Array = grid.reshape(2 * mesh.around, 2 * mesh.across, 4)
    return result


class Field:
    """A field on the grid, evaluated anywhere by cubic splines, from its values at the 2 x 2 Gauss points."""

    def __init__(self, mesh: Mesh, samples: Array) -> None:
        around = (np.arange(mesh.around)[:, None] + 0.5 * (1.0 + GAUSS2)).ravel()
        across = (np.arange(mesh.across)[:, None] + 0.5 * (1.0 + GAUSS2)).ravel()
        ring = np.concatenate([around, around[:1] + mesh.around])
        closed = CubicSpline(ring, np.concatenate([samples, samples[:1]]), axis=0, bc_type="periodic")
        rows = closed(np.arange(FINER * mesh.around) / FINER)
        # Tabulated beyond the borders as well, so that the end condition of the table lies outside the wall.
        steps = np.arange(-2, FINER * mesh.across + 3) / FINER
        table = CubicSpline(across, rows, axis=1)(steps)
        self.coefficients = ndimage.spline_filter1d(
            ndimage.spline_filter1d(table, 3, axis=0, mode="grid-wrap"), 3, axis=1, mode="mirror"
        )

    def __call__(self, place: Array) -> Array:
        """Values [n, k] at grid coordinates [n, 2] (elements around, elements across)."""
        at = np.stack([place[:, 0] * FINER, place[:, 1] * FINER + 2.0])
        columns = [
            ndimage.map_coordinates(self.coefficients[..., k], at, order=3, prefilter=False, mode="grid-wrap")
            for k in range(self.coefficients.shape[2])
        ]
        return np.stack(columns, axis=1)


def places(mesh: Mesh, points: Array) -> Array:
    """Grid coordinates [n, 2] of ``points`` [n, 2] in mm; a point outside the borders gets the nearest border place."""
    steps = (np.arange(SEEDS) + 0.5) / SEEDS * 2.0 - 1.0
    values, _ = shape(steps)
    cell = values[:, None, :, None] * values[None, :, None, :]
    seeds = cell.reshape(SEEDS**2, 9) @ mesh.local(mesh.nodes)
    _, nearest = cKDTree(seeds.reshape(-1, 2)).query(points)
    element, inside = np.divmod(nearest, SEEDS**2)
    place = np.stack(
        [
            element // mesh.across + (inside // SEEDS + 0.5) / SEEDS,
            element % mesh.across + (inside % SEEDS + 0.5) / SEEDS,
        ],
        axis=1,
    )
    active = np.arange(len(points))
    for _ in range(NEWTON_STEPS):
        at = place[active]
        column = np.floor(at[:, 0]).astype(np.intp)
        layer = np.clip(np.floor(at[:, 1]), 0, mesh.across - 1).astype(np.intp)
        n0, d0 = shape(2.0 * (at[:, 0] - column) - 1.0)
        n1, d1 = shape(2.0 * (at[:, 1] - layer) - 1.0)
        x = mesh.nodes.reshape(-1, 2)[mesh.index[(column % mesh.around) * mesh.across + layer]].reshape(
            -1, 3, 3, 2
        )
        lines, slopes = np.einsum("nb,nabk->nak", n1, x), np.einsum("nb,nabk->nak", d1, x)
        gap = points[active] - np.einsum("na,nak->nk", n0, lines)
        along = 2.0 * np.einsum("na,nak->nk", d0, lines)
        across = 2.0 * np.einsum("na,nak->nk", n0, slopes)
        det = along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0]
        step = (
            np.stack(
                [
                    gap[:, 0] * across[:, 1] - gap[:, 1] * across[:, 0],
                    along[:, 0] * gap[:, 1] - along[:, 1] * gap[:, 0],
                ],
                axis=1,
            )
            / det[:, None]
        )
        step = np.clip(step, -0.5, 0.5)
        moved = at + step
        outside = (moved[:, 1] < 0.0) | (moved[:, 1] > mesh.across)
        # At a border the place slides to the foot of the perpendicular.
        foot = np.sum(gap * along, axis=1) / np.sum(along**2, axis=1)
        held = outside & ((at[:, 1] <= 0.0) | (at[:, 1] >= mesh.across))
        moved[held, 0] = at[held, 0] + np.clip(foot[held], -0.5, 0.5)
        moved[:, 1] = np.clip(moved[:, 1], 0.0, mesh.across)
        place[active] = moved
        active = active[np.abs(moved - at).max(axis=1) > CLOSE]
        if not len(active):
            break
    return place


def pixel_points(inside: NDArray[np.bool_], spacing: float) -> Array:
    """Centres (x, y) [n, 2] in mm of the wall's pixels, in row order."""
    row, column = np.nonzero(inside)
    return np.stack([column + 0.5, row + 0.5], axis=1) * spacing
