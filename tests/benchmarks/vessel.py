"""Speed, accuracy and robustness of the vessel solver: ``python tests/benchmarks/vessel.py [--masks N] [--walls N]``.

Prints (1) seconds and relative L2 error of a map against a fine mesh of the same borders, at 64 x 64 and 512 x 512,
beside scikit-fem's Taylor-Hood elements on the same masks; (2) the inflated tube: error against mesh size and order;
(3) random phantoms: refusals by reason. Seconds are the process's CPU time, which other work on the machine does not
stretch much; set OMP_NUM_THREADS=1 so that they are those of one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "oracles")]

from vessel.shapes import random_wall  # noqa: E402
from vessel.taylor_hood import solve_taylor_hood  # noqa: E402
from vessel.test_tube import tube_errors  # noqa: E402

from alss_ray.oracles.vessel import Refused, Settings, solve  # noqa: E402
from alss_ray.oracles.vessel.contours import wall_from_mask  # noqa: E402
from alss_ray.oracles.vessel.elements import Mesh  # noqa: E402
from alss_ray.oracles.vessel.grid import grid_for  # noqa: E402
from alss_ray.oracles.vessel.material import principal  # noqa: E402
from alss_ray.oracles.vessel.recovery import pixel_points, places  # noqa: E402
from alss_ray.tasks.phantoms import make_phantoms  # noqa: E402

FINE = Settings(elements_around=256, elements_across=16)
LATTICES = ((32, 4), (48, 6), (64, 8), (96, 12))  # squares of two triangles each, around and across


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def taylor_hood_map(mask: np.ndarray, spacing: float, around: int, across: int) -> np.ndarray:
    """The principal-stress map by scikit-fem, on triangles cut from the package's grid."""
    wall = wall_from_mask(mask, spacing, Settings().harmonics)
    nodes = grid_for(wall, Settings()).nodes(2 * around, 2 * across)
    points, _, stress = solve_taylor_hood(nodes, 16.0)
    _, which = cKDTree(nodes.reshape(-1, 2)).query(points)
    lattice = np.empty((nodes.shape[0] * nodes.shape[1], 4))
    lattice[which] = stress
    lattice = lattice.reshape(*nodes.shape[:2], 4)
    place = places(Mesh(nodes), pixel_points(wall.inside, spacing))
    cell = np.floor(place).astype(int)
    cell[:, 1] = np.minimum(cell[:, 1], across - 1)
    s, t = (place - cell).T
    flip = s + t > 1.0  # in the triangle at the far corner
    s, t = np.where(flip, 1.0 - s, s), np.where(flip, 1.0 - t, t)
    r = 1.0 - s - t
    weights = (r * (2 * r - 1), s * (2 * s - 1), t * (2 * t - 1), 4 * r * s, 4 * s * t, 4 * r * t)
    offsets = ((0, 0), (2, 0), (0, 2), (1, 0), (1, 1), (0, 1))
    values = np.zeros((len(place), 4))
    for weight, (i, j) in zip(weights, offsets, strict=True):
        column = 2 * cell[:, 0] + np.where(flip, 2 - i, i)
        row = 2 * cell[:, 1] + np.where(flip, 2 - j, j)
        values += weight[:, None] * lattice[column % (2 * around), row]
    result = np.zeros(mask.shape)
    result[wall.inside] = principal(values)
    return result


def timed(masks: np.ndarray, spacing: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Seconds a mask (the best of two) and the maps."""
    seconds, maps = [], []
    solve(masks[0], spacing)
    for mask in masks:
        runs = []
        for _ in range(2):
            start = time.process_time()
            solution = solve(mask, spacing)
            runs.append(time.process_time() - start)
        seconds.append(min(runs))
        maps.append(solution.stress)
    return np.array(seconds), maps


def show(name: str, seconds: np.ndarray, errors: np.ndarray) -> None:
    print(
        f"  {name:34s} {np.median(seconds):8.3f} {seconds.max():8.3f}   {100 * np.median(errors):7.2f} "
        f"{100 * errors.max():7.2f}",
        flush=True,
    )


def speed_and_accuracy(masks: int, triangles: int) -> None:
    print("(1) One core, mask to map; error of the map against a fine mesh of the same borders")
    print(f"  {'':34s} {'seconds a mask':>17s}   {'error, %':>15s}")
    print(f"  {'':34s} {'median':>8s} {'worst':>8s}   {'median':>7s} {'worst':>7s}")
    for side in (64, 512):
        phantoms = make_phantoms(masks, side=side, seed=1, independent=True)
        images, spacing = phantoms.images[:, 0], phantoms.spacing
        fine = [solve(mask, spacing, FINE).stress for mask in images]
        seconds, maps = timed(images, spacing)
        errors = np.array([distance(a, b) for a, b in zip(maps, fine, strict=True)])
        show(f"{side} x {side}, {masks} masks", seconds, errors)
        if side == 64:
            some = slice(0, triangles)
            show(f"  the first {triangles} of them", seconds[some], errors[some])
            for around, across in LATTICES:
                other = []
                start = []
                for mask, expected in zip(images[some], fine[some], strict=True):
                    begin = time.process_time()
                    other.append(distance(taylor_hood_map(mask, spacing, around, across), expected))
                    start.append(time.process_time() - begin)
                show(f"  Taylor-Hood, {around} x {across} x 2 triangles", np.array(start), np.array(other))
                if np.median(other) <= np.median(errors[some]):
                    break


def tube_table() -> None:
    print("(2) Tube 1.5 / 2.2 mm at 16 kPa: relative errors of c and the deviatoric stress, with orders")
    before = None
    for around, across in ((8, 1), (16, 2), (32, 4), (64, 8), (128, 16)):
        errors = np.array(tube_errors(around, across))
        orders = "" if before is None else "   ".join(f"{order:5.2f}" for order in np.log2(before / errors))
        print(f"  {around:4d} x {across:<3d} {errors[0]:10.2e} {errors[1]:10.2e}   {orders}")
        before = errors


def robustness(phantoms: int, walls: int) -> None:
    print("(3) Refusals")
    made = make_phantoms(phantoms, seed=2, independent=True)
    rng = np.random.default_rng(0)
    harder = (random_wall(rng)[0] for _ in range(walls))
    for name, masks, spacing, count in (
        ("independent phantoms", made.images[:, 0], made.spacing, phantoms),
        ("harder random walls (two pixels up)", harder, 0.1, walls),
    ):
        reasons: Counter[str] = Counter()
        start = time.process_time()
        for mask in masks:
            try:
                solve(mask, spacing)
            except Refused as refusal:
                reasons[refusal.reason] += 1
        each = (time.process_time() - start) / max(count, 1)
        print(
            f"  {count} {name}: {sum(reasons.values())} refused {dict(reasons)}, {each:.3f} s each",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--masks", type=int, default=100, help="held-out phantoms to time")
    parser.add_argument("--triangles", type=int, default=10, help="of them, masks for Taylor-Hood as well")
    parser.add_argument("--walls", type=int, default=1000, help="random phantoms, and as many harder walls")
    options = parser.parse_args()
    tube_table()
    robustness(options.walls, options.walls)
    speed_and_accuracy(options.masks, options.triangles)


if __name__ == "__main__":
    main()
