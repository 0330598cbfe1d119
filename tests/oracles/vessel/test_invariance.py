"""What must carry over from mask to map: turns, mirror images, shifts, refinement, units; and static equilibrium."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.interpolate import CloughTocher2DInterpolator, CubicSpline

from alss_ray.oracles.vessel import Settings, Solution, solve

from .shapes import coverage, random_borders, random_wall


def far(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(21)
    found: dict[str, np.ndarray] = {}
    while len(found) < 4:
        mask, kind = random_wall(rng)
        if kind != "crescent":
            found.setdefault(kind, mask)
    return list(found.values())


def test_quarter_turns_and_mirror_images(masks: list[np.ndarray]) -> None:
    for mask in masks:
        whole = solve(mask, 0.1).stress
        for change in (np.rot90, np.fliplr, np.flipud, np.transpose):
            assert far(solve(change(mask).copy(), 0.1).stress, change(whole)) < 0.03


def test_tensor_turns_with_the_mask(masks: list[np.ndarray]) -> None:
    tensor = Settings(quantity="tensor")
    xx, yy, xy = solve(masks[0], 0.1, tensor).stress
    turned = solve(np.rot90(masks[0]).copy(), 0.1, tensor).stress
    for found, expected in zip(turned, (yy, xx, -xy), strict=True):
        assert far(found, np.rot90(expected)) < 0.02


def test_shifts_by_whole_pixels(masks: list[np.ndarray]) -> None:
    for mask in masks:
        padded = np.pad(mask, ((5, 9), (20, 3)))
        assert far(solve(padded, 0.1).stress[5:-9, 20:-3], solve(mask, 0.1).stress) < 1e-4


def test_stress_does_not_depend_on_the_unit_of_length(masks: list[np.ndarray]) -> None:
    assert far(solve(masks[0], 7.0).stress, solve(masks[0], 0.01).stress) < 1e-4


def test_a_finer_mask_gives_the_same_stress() -> None:
    rng = np.random.default_rng(5)
    for _ in range(2):
        while True:
            outer, lumen, kind = random_borders(rng, thinnest=5.0)
            if kind in ("mild", "fourier"):
                break
        coarse = solve(coverage(2 * outer, 2 * lumen, (128, 128)), 0.05).stress
        fine = solve(coverage(8 * outer, 8 * lumen, (512, 512)), 0.0125).stress
        mean = fine.reshape(128, 4, 128, 4)
        whole = (mean > 0).all(axis=(1, 3)) & (coarse > 0)
        assert far(coarse[whole], mean.mean(axis=(1, 3))[whole]) < 0.03


def cut_force(solution: Solution, row: int, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Force across a pixel row through the whole vessel, and the vector between the deformed lumen points on it."""
    nodes, moved = solution.nodes.reshape(-1, 2), solution.displacement.reshape(-1, 2)
    displacement = CloughTocher2DInterpolator(nodes, moved)
    y = (row + 0.5) * spacing
    wall = solution.stress[:, row].any(axis=0)
    starts = np.flatnonzero(wall & ~np.roll(wall, 1))
    ends = np.flatnonzero(wall & ~np.roll(wall, -1))
    crossings = []
    for curve in (solution.wall.outer, solution.wall.lumen):
        t = np.linspace(0.0, 1.0, 20001)
        x, height = curve(t).T
        hit = np.flatnonzero((height[:-1] - y) * (height[1:] - y) < 0)
        crossings.append(np.sort(x[hit]))
    assert [len(starts), len(crossings[0]), len(crossings[1])] == [2, 2, 2]
    force = np.zeros(2)
    for n, (left, right) in enumerate(
        ((crossings[0][0], crossings[1][0]), (crossings[1][1], crossings[0][1]))
    ):
        columns = np.arange(starts[n], ends[n] + 1)
        xx, yy, xy = CubicSpline((columns + 0.5) * spacing, solution.stress[:, row, columns], axis=1)(
            s := np.linspace(left, right, 400)
        )
        at = np.stack([s, np.full_like(s, y)], axis=1)
        inside = displacement(at)
        good = np.isfinite(inside).all(axis=1)
        place = at + np.stack([np.interp(s, s[good], inside[good, k]) for k in (0, 1)], axis=1)
        step = np.gradient(place, s, axis=0)
        normal = np.stack([-step[:, 1], step[:, 0]], axis=1)
        traction = np.stack(
            [xx * normal[:, 0] + xy * normal[:, 1], xy * normal[:, 0] + yy * normal[:, 1]], axis=1
        )
        force += trapezoid(traction, s, axis=0)
        if n == 0:
            first = place[-1]
        else:
            chord = place[0] - first
    return force, chord


def test_every_cut_is_in_equilibrium() -> None:
    rng = np.random.default_rng(33)
    checked = 0
    while checked < 3:
        mask, kind = random_wall(rng, 256, thinnest=5.0)
        if kind == "crescent":
            continue
        spacing = 6.4 / 256
        solution = solve(mask, spacing, Settings(quantity="tensor"))
        rows = np.flatnonzero(((mask[:, 1:] >= 0.5) & (mask[:, :-1] < 0.5)).sum(axis=1) == 2)
        for row in np.quantile(rows, [0.25, 0.5, 0.75]).astype(int):
            force, chord = cut_force(solution, int(row), spacing)
            push = 16.0 * np.array([-chord[1], chord[0]])
            assert np.abs(force - push).max() < 0.02 * np.linalg.norm(push)
        checked += 1
