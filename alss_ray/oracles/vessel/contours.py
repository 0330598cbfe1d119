"""From a wall mask to two smooth closed curves: checks, repairs, the 0.5 level, and the removal of pixel noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from .settings import Refused

Array = NDArray[np.floating[Any]]

SIZES = (32, 1024)  # pixels a side
SPECK = 4  # pixels: an island or a hole up to this size is an artefact ...
SPECK_SHARE = 0.02  # ... as is one up to this share of the wall or of the lumen
THINNEST = 2.0  # pixels
SLACK = 0.05  # pixels: the accuracy to which the 0.5 level of a grey mask places a border
WAVE_GREY, WAVE_BINARY = 5.0, 12.0  # pixels: shorter waves of a border are noise of the pixel grid
WHOLE = 0.49  # a value this far from 0.5 says that the border does not pass through the pixel
ORDER = 8  # steepness of the filter
FACING = 0.95  # cosine of the angle to the border's normal up to which a chord counts as a thickness
EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Curve:
    """A smooth closed curve, counter-clockwise in (x, y), parametrised over [0, 1)."""

    spline: CubicSpline
    length: float

    def __call__(self, t: Array, derivative: int = 0) -> Array:
        """Points, or derivatives with respect to t: shape t.shape + (2,), in mm."""
        result: Array = self.spline(np.mod(t, 1.0), derivative)
        return result


@dataclass(frozen=True)
class Wall:
    """The repaired mask and the two borders found in it."""

    inside: NDArray[np.bool_]  # [H, W], pixels whose centre lies in the wall
    lumen: Curve
    outer: Curve
    thinnest: float  # mm, the smallest distance between the borders
    repairs: tuple[str, ...]


def wall_from_mask(mask: NDArray[np.generic], spacing: float, harmonics: int) -> Wall:
    """Check and repair ``mask`` [H, W] and return its borders in mm.

    A pixel's centre is at ((column + 0.5) * spacing, (row + 0.5) * spacing); y points down the image.
    Sharp partial pixels are read as the share of the pixel that is wall, blurred ones by linear interpolation; both put
    the border at the 0.5 level. A binary mask's staircase is smoothed over waves of WAVE_BINARY pixels.
    Raises Refused when no single wall around a single lumen can be made of it.
    """
    grey = _checked(mask)
    binary = bool(np.all((grey == 0.0) | (grey == 1.0)))
    grey, repairs = _repaired(grey)
    loops = sorted(_level_loops(grey), key=lambda loop: abs(_area(loop)))
    if len(loops) != 2:
        raise Refused("broken wall", f"The 0.5 level has {len(loops)} closed borders where a wall has two.")
    wave = WAVE_BINARY if binary else WAVE_GREY
    lumen, outer = (_smooth(loop, wave, harmonics) for loop in loops)
    thinnest = _thinnest(lumen, outer)
    if thinnest < THINNEST - SLACK:
        raise Refused(
            "thin wall", f"The wall is {thinnest:.2f} pixels thick at its thinnest; {THINNEST:g} are needed."
        )
    for name, border, side in (("lumen", lumen, -1.0), ("outer", outer, 1.0)):
        fold = _thinnest_fold(border, side)
        if fold < THINNEST - SLACK:
            raise Refused(
                "thin wall",
                f"A fold of wall between two stretches of the {name} border is {fold:.2f} pixels thick at its "
                f"thinnest; {THINNEST:g} are needed.",
            )
    scale = [
        Curve(CubicSpline(c.spline.x, c.spline(c.spline.x) * spacing, bc_type="periodic"), c.length * spacing)
        for c in (lumen, outer)
    ]
    return Wall(grey >= 0.5, scale[0], scale[1], thinnest * spacing, repairs)


def _checked(mask: NDArray[np.generic]) -> Array:
    """The mask as floats in [0, 1], or Refused."""
    if not isinstance(mask, np.ndarray) or mask.ndim != 2:
        raise Refused("wrong shape", f"A mask is an array [H, W]; this one has shape {np.shape(mask)}.")
    if min(mask.shape) < SIZES[0] or max(mask.shape) > SIZES[1]:
        raise Refused(
            "wrong shape",
            f"The mask is {mask.shape[0]} x {mask.shape[1]} pixels; "
            f"sides of {SIZES[0]} to {SIZES[1]} can be solved.",
        )
    if mask.dtype == np.uint8:
        grey = mask.astype(np.float64) / 255.0
    elif mask.dtype == np.bool_ or np.issubdtype(mask.dtype, np.floating):
        grey = mask.astype(np.float64)
    else:
        raise Refused(
            "wrong dtype",
            f"The mask has dtype {mask.dtype}; bool, uint8 (0..255) or float (0..1) can be solved.",
        )
    if not np.isfinite(grey).all():
        raise Refused("not finite", f"{np.count_nonzero(~np.isfinite(grey))} pixels are NaN or infinite.")
    if grey.min() < 0 or grey.max() > 1:
        raise Refused("out of range", f"Values run from {grey.min():g} to {grey.max():g}, outside [0, 1].")
    if grey.max() < 0.5:
        raise Refused("empty mask", f"No pixel reaches 0.5 of full scale; the largest is {grey.max():.3g}.")
    if grey.min() >= 0.5:
        raise Refused(
            "full mask", f"Every pixel is wall; the smallest value is {grey.min():.3g} of full scale."
        )
    return grey


def _repaired(grey: Array) -> tuple[Array, tuple[str, ...]]:
    """One wall around one lumen, away from the border, with specks and pinholes gone, or Refused.

    The wall is connected across pixel corners, the background across pixel edges only.
    """
    repairs: list[str] = []
    grey = grey.copy()
    pieces, sizes = _components(grey >= 0.5, EIGHT)
    main = int(np.argmax(sizes)) + 1
    others = [i + 1 for i in range(len(sizes)) if i + 1 != main]
    large = [i for i in others if sizes[i - 1] > max(SPECK, SPECK_SHARE * sizes[main - 1])]
    if large:
        raise Refused(
            "broken wall",
            f"The wall is in {1 + len(large)} pieces; the second has "
            f"{max(sizes[i - 1] for i in large)} pixels.",
        )
    if others:
        grey[(pieces > 0) & (pieces != main)] = 0.0
        repairs.append(f"{len(others)} specks removed ({sum(sizes[i - 1] for i in others)} pixels)")
    wall = grey >= 0.5
    edge = int(wall[[0, -1]].sum() + wall[1:-1, [0, -1]].sum())
    if edge:
        raise Refused("touches border", f"The wall touches the image border in {edge} pixels.")

    holes, sizes = _components(ndimage.binary_fill_holes(wall) & ~wall, None)
    largest = int(sizes.max(initial=0))
    pinholes = [i + 1 for i, size in enumerate(sizes) if size <= max(SPECK, SPECK_SHARE * largest)]
    lumens = len(sizes) - len(pinholes)
    if lumens == 0:
        raise _no_lumen(wall, largest)
    if lumens > 1:
        raise Refused(
            "several lumens",
            f"The wall encloses {lumens} lumens of "
            f"{', '.join(str(s) for s in sorted(sizes, reverse=True)[:lumens])} pixels.",
        )
    if pinholes:
        grey[np.isin(holes, pinholes)] = 1.0
        repairs.append(f"{len(pinholes)} pinholes filled ({sum(sizes[i - 1] for i in pinholes)} pixels)")

    # A sharp border passes through at most one partial pixel, so partial pixels all around a partial one mean blur.
    partial = (grey > 0.1) & (grey < 0.9)
    blurred = ndimage.uniform_filter(partial.astype(np.float64), 3) > 0.7
    if np.count_nonzero(blurred) > 0.1 * np.count_nonzero(partial):
        repairs.append("soft edges: borders taken at the 0.5 level")
    return grey, tuple(repairs)


def _components(
    pixels: NDArray[np.bool_], structure: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    labels, count = ndimage.label(pixels, structure)
    return labels, np.bincount(labels.ravel(), minlength=count + 1)[1:]


def _no_lumen(wall: NDArray[np.bool_], largest: int) -> Refused:
    """Tell an open ring from a disc: growing the wall closes the gap of an open ring."""
    if largest:
        return Refused(
            "no lumen", f"The largest hole in the wall has {largest} pixels; {SPECK + 1} make a lumen."
        )
    reach = max(wall.shape) // 8
    distance = ndimage.distance_transform_edt(~np.pad(wall, reach + 1))
    for gap in range(1, reach + 1):
        grown = distance <= gap
        if np.count_nonzero(ndimage.binary_fill_holes(grown) & ~grown) > SPECK:
            return Refused(
                "broken wall", f"The wall is open: a gap of about {2 * gap} pixels leads into the lumen."
            )
    return Refused("no lumen", "The wall encloses no hole.")


def _level_loops(grey: Array) -> list[Array]:
    """Closed loops [n, 2] of the 0.5 level of the bilinear image, as (x, y) in pixels (marching squares).

    Where two diagonal pixels of a cell are wall the wall is taken as connected, as in the component labelling.
    """
    height, width = grey.shape
    inside = grey >= 0.5
    corner = [inside[:-1, :-1], inside[:-1, 1:], inside[1:, 1:], inside[1:, :-1]]  # clockwise on the screen
    leaves = np.stack([corner[k] & ~corner[(k + 1) % 4] for k in range(4)])
    enters = np.stack([~corner[k] & corner[(k + 1) % 4] for k in range(4)])
    row, column = np.nonzero(leaves.any(axis=0))
    at = row * width + column
    vertical = height * width
    edges = np.stack([at, vertical + at + 1, at + width, vertical + at])  # top, right, bottom, left
    leaves, enters = leaves[:, row, column], enters[:, row, column]
    following: dict[int, int] = {}
    for k in range(4):
        after = [(k + step) % 4 for step in (1, 2, 3)]
        first = np.array(after)[np.argmax(enters[after], axis=0)]
        cells = np.flatnonzero(leaves[k])
        following.update(zip(edges[k, cells].tolist(), edges[first[cells], cells].tolist(), strict=True))

    flat = grey.ravel()
    loops = []
    while following:
        start, edge = following.popitem()
        chain = [start]
        while edge != start:
            chain.append(edge)
            edge = following.pop(edge)
        ids = np.array(chain)
        is_vertical = ids >= vertical
        first = np.where(is_vertical, ids - vertical, ids)
        along = _crossing(flat, first, np.where(is_vertical, width, 1), np.where(is_vertical, 1, width))
        x = first % width + 0.5 + np.where(is_vertical, 0.0, along)
        y = first // width + 0.5 + np.where(is_vertical, along, 0.0)
        loops.append(np.stack([x, y], axis=1))
    return loops


def _crossing(flat: Array, first: NDArray[np.intp], step: NDArray[np.intp], side: NDArray[np.intp]) -> Array:
    """Where the border crosses from pixel ``first`` to ``first + step``, as a share of the way.

    A pixel's value is its share inside the wall, so with the direction of the border it gives the border's distance
    from the pixel's centre; linear interpolation of the values themselves would be off by up to 0.05 pixels.
    """
    a, b = flat[first], flat[first + step]
    before, after = flat[first - side], flat[first + side]
    before_b, after_b = flat[first + step - side], flat[first + step + side]
    normal = np.abs(2.0 * (b - a) + after_b - after + before_b - before)
    tangent = np.abs(after - before + after_b - before_b)
    size = np.hypot(normal, tangent) + 1e-12
    normal, tangent = np.maximum(normal / size, 0.3), tangent / size
    of_a, of_b = (_distance(value, normal, tangent) / normal for value in (a, b))
    whole_a, whole_b = np.abs(a - 0.5) > WHOLE, np.abs(b - 0.5) > WHOLE
    between = of_a / (of_a - of_b)
    result = np.where(
        whole_a, np.where(whole_b, between, 1.0 - np.abs(of_b)), np.where(whole_b, np.abs(of_a), between)
    )
    return np.clip(result, 0.0, 1.0)


def _distance(share: Array, normal: Array, tangent: Array) -> Array:
    """Signed distance from a unit square's centre to the line that leaves ``share`` of the square on one side."""
    small, large = np.minimum(normal, tangent), np.maximum(normal, tangent)
    off = np.minimum(np.abs(share - 0.5), 0.5)
    corner = 0.5 * (small + large) - np.sqrt(2.0 * small * large * (0.5 - off))
    return np.sign(share - 0.5) * np.where(off * 2.0 * large <= large - small, off * large, corner)


def _area(loop: Array) -> float:
    x, y = loop.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def _smooth(loop: Array, wave: float, harmonics: int) -> Curve:
    """The loop without waves shorter than ``wave`` pixels or finer than ``harmonics`` waves along it.

    A low-pass filter with a flat pass band on z(s) = x + iy over the arc length, so that the curve does not shrink.
    """
    if _area(loop) < 0:
        loop = loop[::-1]
    closed = np.vstack([loop, loop[:1]])
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    length = float(arc[-1])
    count = 1 << int(np.ceil(np.log2(max(256.0, 4.0 * length))))
    s = np.arange(count) * (length / count)
    spectrum = np.fft.fft(np.interp(s, arc, closed[:, 0]) + 1j * np.interp(s, arc, closed[:, 1]))
    waves = np.abs(np.fft.fftfreq(count, 1.0 / count))
    cut = min(length / wave, float(harmonics))
    z = np.fft.ifft(spectrum * np.exp(-np.log(2.0) * (waves / max(cut, 2.0)) ** ORDER))
    # Start at the point farthest from the middle, so that the grid turns with the mask.
    z = np.roll(z, -int(np.argmax(np.abs(z - z.mean()))))
    stride = max(1, count // 1024)
    points = np.stack([z.real, z.imag], axis=1)[::stride]
    points = np.vstack([points, points[:1]])
    return Curve(CubicSpline(np.linspace(0.0, 1.0, len(points)), points, bc_type="periodic"), length)


def _thinnest(lumen: Curve, outer: Curve) -> float:
    """The smallest distance between the curves, in pixels."""
    t = np.linspace(0.0, 1.0, 1024, endpoint=False)
    from_outer, to_lumen = outer(t), lumen(t)
    distance, _ = cKDTree(from_outer).query(to_lumen)
    return float(distance.min())


def _thinnest_fold(border: Curve, side: float) -> float:
    """The shortest chord in pixels, below THINNEST, across wall between two stretches of one border; else infinity.

    A thickness is normal to the border at both its ends. ``side`` is 1 where the wall lies on the left of the curve, -1
    on the right; a slit of lumen is crossed on the other side and does not count.
    """
    t = np.arange(1024) / 1024
    points, tangent = border(t), border(t, 1)
    into = side * np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) / np.hypot(*tangent.T)[:, None]
    first, second = cKDTree(points).query_pairs(THINNEST, output_type="ndarray").T
    chord = points[second] - points[first]
    length = np.hypot(*chord.T)
    facing = (
        np.minimum(np.sum(into[first] * chord, axis=1), -np.sum(into[second] * chord, axis=1))
        > FACING * length
    )
    return float(length[facing].min(initial=np.inf))
