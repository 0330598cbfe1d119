"""Random vessel walls for tests and benchmarks: known borders, rasterised by pixel coverage."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def coverage(outer: np.ndarray, lumen: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Share of every pixel inside ``outer`` and outside ``lumen`` (polygons [n, 2] of x, y in pixels), float32."""
    return np.clip(_filled(outer, size) - _filled(lumen, size), 0.0, 1.0).astype(np.float32)


def _filled(polygon: np.ndarray, size: tuple[int, int], finer: int = 16) -> np.ndarray:
    """Share of every pixel inside a polygon: exact along x, by ``finer`` scan lines a pixel along y."""
    height, width = size
    x0, y0 = polygon.T
    x1, y1 = np.roll(polygon, -1, axis=0).T
    low, high = (
        np.ceil(np.minimum(y0, y1) * finer - 0.5).astype(int),
        np.ceil(np.maximum(y0, y1) * finer - 0.5).astype(int),
    )
    edge = np.repeat(np.arange(len(x0)), high - low)
    line = np.arange(len(edge)) - np.repeat(np.cumsum(high - low) - (high - low), high - low) + low[edge]
    at = x0[edge] + ((line + 0.5) / finer - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    sign = np.where(y1 > y0, 1.0, -1.0)[edge]
    column = np.floor(at).astype(int)
    # Everything right of the crossing is covered: part of its own pixel, all of the later ones.
    change = np.zeros((height, width + 2))
    np.add.at(change, (line // finer, column), sign * (column + 1 - at))
    np.add.at(change, (line // finer, column + 1), sign * (at - column))
    return np.abs(np.cumsum(change, axis=1)[:, :width]) / finer


def circle(radius: float, centre: tuple[float, float], count: int = 2000) -> np.ndarray:
    angle = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1)


def tube(
    size: int, inner: float, outer: float, spacing: float, shift: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """Concentric tube; radii and shift in mm."""
    centre = (size / 2 + shift[0] / spacing, size / 2 + shift[1] / spacing)
    return coverage(circle(outer / spacing, centre), circle(inner / spacing, centre), (size, size))


def random_wall(rng: np.random.Generator, size: int = 64, thinnest: float = 2.3) -> tuple[np.ndarray, str]:
    """One random wall [size, size] by pixel coverage, and its kind; see ``random_borders``."""
    while True:
        outer, lumen, kind = random_borders(rng, thinnest)
        mask = coverage(outer * size / 64, lumen * size / 64, (size, size))
        # One hole and one wall: the lumen lies inside the outer border.
        if ndimage.label(mask < 0.5)[1] == 2 and ndimage.label(mask >= 0.5)[1] == 1:
            return mask, kind


def random_borders(rng: np.random.Generator, thinnest: float = 2.3) -> tuple[np.ndarray, np.ndarray, str]:
    """Outer and lumen border [1500, 2] in pixels of a 64-pixel image, and the kind of wall.

    Kinds: mild, eccentric, Fourier, bean or crescent; no wall is thinner than ``thinnest`` pixels.
    """
    kinds = ("mild", "eccentric", "fourier", "bean", "crescent")
    while True:
        kind = str(rng.choice(kinds, p=(0.3, 0.25, 0.25, 0.12, 0.08)))
        angle = np.linspace(0.0, 2.0 * np.pi, 1500, endpoint=False)
        big = rng.uniform(18, 28)
        rough = {"mild": 0.02, "eccentric": 0.02}.get(kind, 0.06)
        outer = big * _blob(rng, angle, rough, rng.uniform(0.0, 0.12))
        if kind in ("bean", "crescent"):
            radius = big * rng.uniform(0.4, 0.6)
            bend = rng.uniform(0.8, 1.6) if kind == "bean" else rng.uniform(1.8, 2.8)
            lumen = _bent(angle, radius, bend, rng.uniform(0.35, 0.55))
            lumen = lumen * np.exp(1j * rng.uniform(0, 2 * np.pi))
            room = big * 0.15
        else:
            radius = big * rng.uniform(0.3, 0.8)
            lumen = radius * _blob(rng, angle, rough, rng.uniform(0.0, 0.3))
            room = (big - radius) * (1.0 if kind == "eccentric" else 0.5)
        lumen = lumen + room * rng.uniform(0, 1) * np.exp(1j * rng.uniform(0, 2 * np.pi))
        distance = np.abs(outer[::6, None] - lumen[None, ::6])
        if distance.min() < thinnest or np.abs(outer).max() > 30.5:
            continue
        pair = [np.stack([z.real, z.imag], 1) + 32.0 for z in (outer, lumen)]
        return pair[0], pair[1], kind


def _blob(rng: np.random.Generator, angle: np.ndarray, rough: float, ellipse: float) -> np.ndarray:
    """A unit circle as a complex curve, flattened and with random waves 2 to 7 on its radius."""
    radius = np.ones_like(angle)
    for k in range(2, 8):
        radius += rough * rng.normal() / k * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) * 2
    z = radius * np.exp(1j * angle)
    return ((1 + ellipse) * z.real + 1j * (1 - ellipse) * z.imag) * np.exp(1j * rng.uniform(0, 2 * np.pi))


def _bent(angle: np.ndarray, radius: float, bend: float, width: float) -> np.ndarray:
    """An ellipse whose long axis is bent to an arc of ``2 * bend`` radians: a bean, or a crescent."""
    along, across = np.cos(angle) * bend, np.sin(angle) * width * 0.8
    return radius * (0.9 + across * 0.6) * np.exp(1j * along) - radius * 0.4
