"""A body-fitted O-grid between the two borders of any doubly connected wall.

Rays join the lumen to the outer border. Straight rays make a good grid for most vessels; where they cross or are
skewed (crescents, deep bays) the inner nodes are moved to the minimum of a distortion energy that untangles folded
cells on its way, after Garanzha et al. 2021, Foldover-free maps in 50 lines of code, doi:10.1145/3450626.3459847.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.interpolate import BSpline, CubicSpline, PchipInterpolator, make_interp_spline
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from .contours import Array, Curve, Wall
from .settings import Refused, Settings

RAYS, LAYERS = 64, 6  # cells of the control grid
MESHES = ((80, 6), (128, 8), (192, 12))  # elements around and across; the first for straight rays and gentle bends
SHARP = 0.25  # radians between neighbouring cells of the control grid along the lumen
GOOD = 0.3  # a sine of the cell angles from which straight rays are taken as they are
FIRST_STEP = 0.2  # the innermost fifth of the layers ...
FIRST_LAYER = 1.0  # ... is to be as high as this many lumen cells (of RAYS along the lumen) are long
MOST_GROWTH = 3.0  # log of the outermost layer over the innermost
BEND = 1.0  # weight of the turning angle beside arc length in the spacing along the lumen
SPREAD = 0.1  # weight of even gaps between the rays' ends on the outer border
SIZE_WEIGHT = 0.1  # weight of even cell areas beside cell shape in the distortion energy


@dataclass(frozen=True)
class Grid:
    """A smooth map from (xi, eta) to the wall: xi in [0, 1) along the borders, eta from 0 (lumen) to 1 (outer)."""

    wall: Wall
    t_lumen: CubicSpline  # xi -> border parameter minus xi
    t_outer: CubicSpline
    growth: CubicSpline  # xi -> log of the ratio of the outermost to the innermost layer, per unit of eta
    control: Array | None  # relaxed control grid [rays, LAYERS + 1, 2]; None: straight rays
    sharpest: float  # largest angle in radians between neighbouring of RAYS cells along the lumen
    smooth: bool  # between control nodes: cubic splines, or the bilinear map that no unfolded control grid can fold

    def meshes(self, settings: Settings) -> list[tuple[int, int]]:
        """Elements around and across: as set, else by shape, with finer ones to fall back on."""
        first = 0 if self.control is None and self.sharpest < SHARP else 1
        return list(dict.fromkeys((settings.elements_around or around, settings.elements_across or across)
                                  for around, across in MESHES[first:]))

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
        layers = self.control.shape[1] - 1
        control = _periodic(self.control, self.smooth)(xi)
        inside = np.einsum("xec,xcd->xed", _cardinal(eta, layers, self.smooth), control)
        result: Array = (inside + (1.0 - weight) * (lumen - control[:, 0])[:, None]
                         + weight * (outer - control[:, -1])[:, None])
        return result


def grid_for(wall: Wall) -> Grid:
    """The grid of ``wall``; raises Refused ('no convergence') if no unfolded one is found."""
    for rays in (RAYS, 2 * RAYS, 4 * RAYS):
        grid = _attempt(wall, rays)
        if grid is not None:
            return grid
    raise Refused("no convergence", "No grid without folds was found between the borders of this wall.")


def _attempt(wall: Wall, rays: int) -> Grid | None:
    t_in = _even(wall.lumen, rays)
    lumen = wall.lumen(t_in)
    t_out = _partners(lumen, wall.outer)
    outer = wall.outer(t_out)
    growth = _growth(lumen, outer)
    sharpest = _sharpest(lumen) * rays / RAYS
    shifts = [_periodic(t - np.arange(rays) / rays) for t in (t_in, t_out)]
    if _sines(_straight(lumen, outer, 2)).min() > GOOD:
        return Grid(wall, shifts[0], shifts[1], growth, None, sharpest, True)
    control = _relaxed(_straight(lumen, outer, LAYERS))
    if control is None:
        return None
    for smooth in (True, False) if rays > RAYS else (True,):
        grid = Grid(wall, shifts[0], shifts[1], growth, control, sharpest, smooth)
        if _sines(grid.nodes(2 * rays, 2 * LAYERS)).min() > 0.02:
            return grid
    return None


def _periodic(values: Array, smooth: bool = True) -> CubicSpline | BSpline:
    knots, closed = np.linspace(0.0, 1.0, len(values) + 1), np.concatenate([values, values[:1]])
    return CubicSpline(knots, closed, bc_type="periodic") if smooth else make_interp_spline(knots, closed, k=1)


def _sharpest(points: Array) -> float:
    """The largest angle in radians between neighbouring sides of a closed polygon [n, 2]."""
    side = np.roll(points, -1, axis=0) - points
    ahead = np.roll(side, -1, axis=0)
    return float(np.abs(np.arctan2(side[:, 0] * ahead[:, 1] - side[:, 1] * ahead[:, 0],
                                   np.sum(side * ahead, axis=1))).max())


def _straight(lumen: Array, outer: Array, layers: int) -> Array:
    eta = np.linspace(0.0, 1.0, layers + 1)[None, :, None]
    return (1.0 - eta) * lumen[:, None] + eta * outer[:, None]


def _cardinal(eta: Array, layers: int, smooth: bool) -> Array:
    """Weights [..., layers + 1] of a spline, cubic or linear, through even knots of [0, 1] at ``eta`` [...]."""
    knots = np.linspace(0.0, 1.0, layers + 1)
    weights: Array = make_interp_spline(knots, np.eye(layers + 1), k=3 if smooth else 1)(eta)
    return weights


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


def _partners(lumen: Array, outer: Curve) -> Array:
    """Outer-border parameters, rising, for the lumen points: near their partners, and well spread.

    Minimises sum |x_outer(t_i) - x_i|^2 / d_i^2 + SPREAD * (g_i^2 + 1 / g_i^2) by Newton's method, with d_i the wall
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
        return float(np.sum(away + SPREAD * (gaps(t) ** 2 + gaps(t) ** -2.0)))

    ring = np.arange(count)
    now = energy(t)
    for _ in range(30):
        g = gaps(t)
        slope = outer(t, 1) / thickness[:, None]
        pull = SPREAD * (2.0 * g - 2.0 * g**-3.0) * count
        stiff = SPREAD * (2.0 + 6.0 * g**-4.0) * count**2
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


def _corners(nodes: Array) -> tuple[Array, Array]:
    """Edge vectors (along xi, along eta) at the four corners of every cell: two arrays [4, rays, layers, 2]."""
    ahead = np.roll(nodes, -1, axis=0)
    along, across = ahead - nodes, nodes[:, 1:] - nodes[:, :-1]
    low, high, here, there = along[:, :-1], along[:, 1:], across, np.roll(across, -1, axis=0)
    return np.stack([low, low, high, high]), np.stack([here, there, here, there])


def _sines(nodes: Array) -> Array:
    """Sine of the cell angles at all corners, positive where the cell is not folded: [4, rays, layers].

    With xi counter-clockwise and eta outward the map's Jacobian is negative.
    """
    a, b = _corners(nodes)
    return (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]) / -(
        np.hypot(a[..., 0], a[..., 1]) * np.hypot(b[..., 0], b[..., 1]) + 1e-300)


def _relaxed(nodes: Array, steps: int = 60) -> Array | None:
    """Move the inner nodes to the least distortion; None if cells stay folded."""
    rays, layers = nodes.shape[0], nodes.shape[1] - 1
    nodes = nodes * np.array([1.0, -1.0])  # makes unfolded cells positive
    a, _ = _corners(nodes)
    # The ideal cell: as long as its borders' cells, and as high as the wall is thick there over the layers.
    height = np.hypot(*(nodes[:, -1] - nodes[:, 0]).T) / layers
    height = 0.5 * (height + np.roll(height, -1))[None, :, None]
    ends = np.hypot(a[..., 0], a[..., 1])
    share = (np.arange(layers) + 0.5) / layers
    length = (1 - share) * ends[0, :, :1] + share * ends[2, :, -1:]
    length = np.broadcast_to(length[None], ends.shape)
    height = np.broadcast_to(height, ends.shape)

    index = np.arange(rays * (layers - 1)).reshape(rays, layers - 1)
    number = np.full((rays, layers + 1), -1)
    number[:, 1:-1] = index
    # Nodes of the corner triangles: (corner, its neighbour along xi, its neighbour along eta), with edge signs.
    i, j = np.meshgrid(np.arange(rays), np.arange(layers), indexing="ij")
    k = (i + 1) % rays
    tri = np.stack([
        np.stack([number[i, j], number[k, j], number[i, j], number[i, j + 1]], -1),
        np.stack([number[i, j], number[k, j], number[k, j], number[k, j + 1]], -1),
        np.stack([number[i, j + 1], number[k, j + 1], number[i, j], number[i, j + 1]], -1),
        np.stack([number[i, j + 1], number[k, j + 1], number[k, j], number[k, j + 1]], -1)])
    return _minimise(nodes, length, height, tri, steps)


def _minimise(nodes: Array, length: Array, height: Array, tri: Array, steps: int) -> Array | None:
    unknowns = 2 * nodes.shape[0] * (nodes.shape[1] - 2)
    # d(entries of A)/d(node coordinates): A = [a / length, b / height], entries ordered ax, ay, bx, by.
    sign = np.array([-1.0, 1.0, -1.0, 1.0])
    scale = np.stack([1 / length, 1 / length, 1 / height, 1 / height], -1) * sign
    entry = np.array([0, 0, 2, 2])
    rows, cols, vals = [], [], []
    corner = np.arange(length.size).reshape(length.shape)
    for n in range(4):
        free = tri[..., n] >= 0
        for c in range(2):
            rows.append(4 * corner[free] + entry[n] + c)
            cols.append(2 * tri[..., n][free] + c)
            vals.append(scale[..., n][free])
    to_a = sparse.csr_matrix((np.concatenate(vals), (np.concatenate(rows), np.concatenate(cols))),
                             shape=(4 * length.size, unknowns))
    weight = (length * height).ravel()
    weight = weight / weight.mean()
    x = nodes[:, 1:-1].reshape(-1)
    a, b = _corners(nodes)
    start = np.concatenate([a / length[..., None], b / height[..., None]], -1).reshape(-1) - to_a @ x

    def energy(entries: Array, eps: float) -> float:
        e = entries.reshape(-1, 4)
        det = e[:, 0] * e[:, 3] - e[:, 1] * e[:, 2]
        if eps == 0.0 and det.min() <= 0.0:
            return np.inf
        chi = 0.5 * (det + np.sqrt(eps**2 + det**2))
        return float(np.sum(weight * (np.sum(e**2, 1) + SIZE_WEIGHT * (1 + det**2)) / chi))

    eps, previous = 0.0, np.inf
    for _ in range(steps):
        entries = start + to_a @ x
        e = entries.reshape(-1, 4)
        det = e[:, 0] * e[:, 3] - e[:, 1] * e[:, 2]
        lowest = float(det.min())
        eps = 0.0 if lowest > 1e-3 else float(np.sqrt(1e-6 + 0.04 * lowest**2))
        root = np.sqrt(eps**2 + det**2)
        chi = 0.5 * (det + root)
        dchi = chi / root
        f = np.sum(e**2, 1) + SIZE_WEIGHT * (1 + det**2)
        cof = np.stack([e[:, 3], -e[:, 2], -e[:, 1], e[:, 0]], 1)
        slope = 2 * e / chi[:, None] + ((2 * SIZE_WEIGHT * det - f * dchi / chi) / chi)[:, None] * cof
        # Positive part of the second derivative: 2 I / chi, and the convex dependence on the determinant.
        cross = -(2 * dchi / chi**2)
        bend = 2 * SIZE_WEIGHT / chi + 2 * f * dchi**2 / chi**3 - 4 * SIZE_WEIGHT * det * dchi / chi**2
        hess = (2 / chi)[:, None, None] * np.eye(4) + bend[:, None, None] * cof[:, :, None] * cof[:, None, :]
        mixed = cross[:, None, None] * (e[:, :, None] * cof[:, None, :] + cof[:, :, None] * e[:, None, :])
        hess = hess + mixed
        blocks = sparse.bsr_matrix((weight[:, None, None] * hess, np.arange(len(e)), np.arange(len(e) + 1)))
        matrix = (to_a.T @ blocks @ to_a).tocsc()
        gradient = to_a.T @ (weight[:, None] * slope).reshape(-1)
        move = -splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(gradient)
        now, step = energy(entries, eps), 1.0
        while step > 1e-4:
            trial = energy(start + to_a @ (x + step * move), eps)
            if trial < now:
                break
            step *= 0.5
        else:
            return None if lowest <= 0 else _with(nodes, x)
        x = x + step * move
        if eps == 0.0 and previous - trial < 1e-3 * trial:
            break
        previous = trial if eps == 0.0 else np.inf
    entries = (start + to_a @ x).reshape(-1, 4)
    folded = np.min(entries[:, 0] * entries[:, 3] - entries[:, 1] * entries[:, 2]) <= 0
    return None if folded else _with(nodes, x)


def _with(nodes: Array, x: Array) -> Array:
    """The grid with its inner nodes replaced, in image orientation again."""
    nodes = nodes.copy()
    nodes[:, 1:-1] = x.reshape(nodes.shape[0], -1, 2)
    return nodes * np.array([1.0, -1.0])
