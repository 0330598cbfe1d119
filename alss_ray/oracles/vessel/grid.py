"""A body-fitted O-grid between the two borders of any doubly connected wall.

Rays join the lumen to the outer border. Straight rays make a good grid for most vessels; where they cross or are
skewed (crescents, deep bays) a control grid is relaxed, and the nodes are interpolated from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.spatial import cKDTree

from .contours import Array, Curve, Wall
from .elements import Mesh
from .relaxation import relaxed, sines
from .settings import Refused, Settings

RAYS, LAYERS = 64, 6  # cells of the control grid
MESHES = (
    (80, 6),
    (80, 8),
    (192, 12),
)  # elements around and across; the first for straight rays and gentle bends
SHARP = 0.25  # radians between neighbouring cells of the control grid along the lumen
GOOD = 0.3  # a sine of the cell angles from which straight rays are taken as they are
FIRST_STEP = 0.2  # the innermost fifth of the layers ...
FIRST_LAYER = 1.0  # ... is to be as high as this many lumen cells (of RAYS along the lumen) are long
MOST_GROWTH = 3.0  # log of the outermost layer over the innermost
BEND = 1.0  # weight of the turning angle beside arc length in the spacing along the lumen
# Control grids to try: times finer than RAYS x LAYERS, and weight of even gaps between the rays' outer ends.
ATTEMPTS = ((1, 0.1), (2, 0.1), (1, 0.3), (2, 0.3), (1, 0.03), (2, 0.03))


@dataclass(frozen=True)
class Grid:
    """A smooth map from (xi, eta) to the wall: xi in [0, 1) along the borders, eta from 0 (lumen) to 1 (outer)."""

    wall: Wall
    t_lumen: CubicSpline  # xi -> border parameter minus xi
    t_outer: CubicSpline
    growth: CubicSpline  # xi -> log of the ratio of the outermost to the innermost layer, per unit of eta
    control: Array | None  # relaxed control grid [rays, layers + 1, 2]; None: straight rays
    sharpest: float  # largest angle in radians between neighbouring of RAYS cells along the lumen

    def meshes(self, settings: Settings) -> list[tuple[int, int]]:
        """Elements around and across: as set, else by shape, with finer ones to fall back on."""
        first = 0 if self.control is None and self.sharpest < SHARP else 1
        return list(
            dict.fromkeys(
                (settings.elements_around or around, settings.elements_across or across)
                for around, across in MESHES[first:]
            )
        )

    def nodes(self, around: int, across: int) -> Array:
        """Node positions [around, across + 1, 2] in mm at equal steps of xi and graded steps of eta."""
        xi = np.arange(around) / around
        step = np.linspace(0.0, 1.0, across + 1)
        growth = np.maximum(self.growth(xi), 1e-3)[:, None]
        eta = np.expm1(growth * step) / np.expm1(growth)
        lumen = self.wall.lumen(xi + self.t_lumen(xi))
        outer = self.wall.outer(xi + self.t_outer(xi))
        weight = eta[..., None]
        if self.control is None:
            return (1.0 - weight) * lumen[:, None] + weight * outer[:, None]
        control = _periodic(self.control)(xi)
        count = control.shape[1]
        cardinal = CubicSpline(np.linspace(0.0, 1.0, count), np.eye(count))(eta)
        inside = np.einsum("xec,xcd->xed", cardinal, control)
        result: Array = (
            inside
            + (1.0 - weight) * (lumen - control[:, 0])[:, None]
            + weight * (outer - control[:, -1])[:, None]
        )
        return result


def grid_for(wall: Wall, settings: Settings) -> Grid:
    """The grid of ``wall``; raises Refused ('no convergence') if none is found that folds no element."""
    control: Array | None = None
    for finer, spread in ATTEMPTS:
        rays, layers = finer * RAYS, finer * LAYERS
        t_lumen = _even(wall.lumen, rays)
        lumen = wall.lumen(t_lumen)
        t_outer = _partners(lumen, wall.outer, spread)
        outer = wall.outer(t_outer)
        straight = (1.0 - _steps(layers)) * lumen[:, None] + _steps(layers) * outer[:, None]
        grid = Grid(
            wall,
            _periodic(t_lumen - np.arange(rays) / rays),
            _periodic(t_outer - np.arange(rays) / rays),
            _growth(lumen, outer),
            None,
            _sharpest(lumen) * finer,
        )
        if sines(straight[:, [0, -1]]).min() > GOOD:
            return grid
        if finer == 1 or control is None:  # untangle half the rays and layers first, where steps are cheap
            control = relaxed(straight[::2, ::2])
        control = relaxed(straight, None if control is None else _doubled(control))
        if control is not None:
            grid = replace(grid, control=control)
            if _unfolded(grid, settings):
                return grid
    raise Refused("no convergence", "No grid without folds was found between the borders of this wall.")


def _unfolded(grid: Grid, settings: Settings) -> bool:
    around, across = grid.meshes(settings)[0]
    try:
        Mesh(grid.nodes(2 * around, 2 * across))
    except ValueError:
        return False
    return True


def _steps(layers: int) -> Array:
    return np.linspace(0.0, 1.0, layers + 1)[None, :, None]


def _doubled(control: Array) -> Array:
    """The bilinear refinement of a control grid: twice the rays and twice the layers."""
    rays, rows = control.shape[:2]
    result = np.empty((2 * rays, 2 * rows - 1, 2))
    result[::2, ::2] = control
    result[1::2, ::2] = 0.5 * (control + np.roll(control, -1, axis=0))
    result[:, 1::2] = 0.5 * (result[:, :-2:2] + result[:, 2::2])
    return result


def _periodic(values: Array) -> CubicSpline:
    return CubicSpline(
        np.linspace(0.0, 1.0, len(values) + 1), np.concatenate([values, values[:1]]), bc_type="periodic"
    )


def _sharpest(points: Array) -> float:
    """The largest angle in radians between neighbouring sides of a closed polygon [n, 2]."""
    side = np.roll(points, -1, axis=0) - points
    ahead = np.roll(side, -1, axis=0)
    return float(
        np.abs(
            np.arctan2(side[:, 0] * ahead[:, 1] - side[:, 1] * ahead[:, 0], np.sum(side * ahead, axis=1))
        ).max()
    )


def _growth(lumen: Array, outer: Array) -> CubicSpline:
    """Radial grading by ray: layers start as high as the lumen's cells are long, where stress varies fastest."""
    spacing = np.hypot(*(np.roll(lumen, -1, axis=0) - np.roll(lumen, 1, axis=0)).T) / 2.0 * len(lumen) / RAYS
    share = FIRST_LAYER * spacing / np.hypot(*(outer - lumen).T)
    logs = np.linspace(1e-3, MOST_GROWTH, 64)
    first = np.expm1(logs * FIRST_STEP) / np.expm1(logs)
    growth = np.interp(share, first[::-1], logs[::-1])
    kernel = np.exp(-0.5 * (np.fft.fftfreq(len(lumen), 1.0 / RAYS) / 1.5) ** 2)
    return _periodic(np.fft.ifft(np.fft.fft(growth) * np.fft.fft(kernel / kernel.sum())).real)


def _even(curve: Curve, count: int) -> Array:
    """Parameters of ``count`` points, evenly spaced in arc length but closer where the border bends sharply."""
    t = np.arange(1024) / 1024
    speed = np.hypot(*curve(t, 1).T)
    d1, d2 = curve(t, 1), curve(t, 2)
    turning = np.abs(d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]) / speed**2  # angle per unit of t
    kernel = np.exp(-0.5 * (np.fft.fftfreq(1024, 1 / 1024) / 16.0) ** 2)
    turning = np.fft.ifft(np.fft.fft(turning) * np.fft.fft(kernel / kernel.sum())).real
    density = speed / speed.mean() + BEND * turning / (2.0 * np.pi)
    total = np.concatenate([[0.0], np.cumsum(density)])
    target = np.arange(count) * (total[-1] / count)
    result: Array = PchipInterpolator(total, np.arange(1025) / 1024)(target)
    return result


def _partners(lumen: Array, outer: Curve, spread: float) -> Array:
    """Outer-border parameters, rising, for the lumen points: near their partners, and well spread.

    Minimises sum |x_outer(t_i) - x_i|^2 / d_i^2 + spread * (g_i^2 + 1 / g_i^2) by Newton's method, with d_i the wall
    thickness at point i, so that rays are held firmly across a thin wall and loosely across a thick one, and g_i the
    gap t_(i+1) - t_i over the mean gap, so that rays never meet.
    """
    count = len(lumen)
    table = np.arange(512) / 512
    thickness, nearest = cKDTree(outer(table)).query(lumen)
    # Start from equal gaps, turned to fit best the points that lie close to the outer border.
    offset = (nearest / 512 - np.arange(count) / count) * 2.0 * np.pi
    turn = float(np.angle(np.sum(np.exp(1j * offset) / thickness**2))) / (2.0 * np.pi)
    t = np.arange(count) / count + turn

    def gaps(t: Array) -> Array:
        return np.diff(t, append=t[0] + 1.0) * count

    def energy(t: Array) -> float:
        away = np.sum((outer(t) - lumen) ** 2, axis=1) / thickness**2
        return float(np.sum(away + spread * (gaps(t) ** 2 + gaps(t) ** -2.0)))

    ring = np.arange(count)
    now = energy(t)
    for _ in range(30):
        g = gaps(t)
        slope = outer(t, 1) / thickness[:, None]
        pull = spread * (2.0 * g - 2.0 * g**-3.0) * count
        stiff = spread * (2.0 + 6.0 * g**-4.0) * count**2
        gradient = 2.0 * np.sum(slope * (outer(t) - lumen), axis=1) / thickness + np.roll(pull, 1) - pull
        matrix = np.diag(2.0 * np.sum(slope**2, axis=1) + stiff + np.roll(stiff, 1))
        matrix[ring, (ring + 1) % count] -= stiff
        matrix[(ring + 1) % count, ring] -= stiff
        move = -np.linalg.solve(matrix, gradient)
        closing = float(np.max(-np.diff(move, append=move[0]) * count / g))
        step = min(1.0, 0.8 / max(closing, 1e-12))
        while (trial := energy(t + step * move)) > now and step > 1e-6:
            step *= 0.5
        t = t + step * move
        if now - trial < 1e-3 * now:
            break
        now = trial
    return t
