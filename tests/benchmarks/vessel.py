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
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
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
from alss_ray.tasks.phantoms import FIELD_MM, Phantoms, make_phantoms, rasterise  # noqa: E402

FINE = Settings(elements_around=256, elements_across=16)
FIRST_TEST_VESSEL = 33  # alss_ray/tasks/phantoms.py
LATTICES = ((48, 4), (64, 6), (96, 8))  # squares of two triangles each, around and across


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
        f"  {name:38s} {np.median(seconds):8.3f} {seconds.max():8.3f}   {100 * np.median(errors):7.2f} "
        f"{100 * errors.max():7.2f}",
        flush=True,
    )


def held_out(count: int) -> Phantoms:
    """So many slices of the vessels that the IVUS task keeps for testing, evenly spread over them."""
    made = make_phantoms()
    of_test = np.flatnonzero(made.vessel >= FIRST_TEST_VESSEL)
    chosen = of_test[np.linspace(0, len(of_test) - 1, count).astype(int)]
    return replace(
        made, **{f.name: getattr(made, f.name)[chosen] for f in fields(made) if f.name != "spacing"}
    )


def speed_and_accuracy(masks: int, triangles: int) -> None:
    print("(1) One core, mask to map; error of the map against a fine mesh of the same borders")
    print(f"  {'':38s} {'seconds a mask':>17s}   {'error, %':>15s}")
    print(f"  {'':38s} {'median':>8s} {'worst':>8s}   {'median':>7s} {'worst':>7s}")
    made = held_out(masks)
    for side in (64, 512):
        images, spacing = rasterise(made.outer, made.lumen, side), FIELD_MM / side
        seconds, maps = timed(images, spacing)
        fine = [
            solve(mask, spacing, FINE).stress
            for mask in track(images, f"fine meshes, {side} x {side}", console=Console(stderr=True))
        ]
        errors = np.array([distance(a, b) for a, b in zip(maps, fine, strict=True)])
        show(f"{side} x {side}, {masks} held-out masks", seconds, errors)
        if side == 64:
            some = np.linspace(0, masks - 1, triangles).astype(int)
            show(f"  {triangles} of them", seconds[some], errors[some])
            taylor_hood(images[some], spacing, [fine[k] for k in some], seconds[some], errors[some])


def taylor_hood(
    images: np.ndarray, spacing: float, fine: list[np.ndarray], seconds: np.ndarray, errors: np.ndarray
) -> None:
    """Finer and finer triangles, until they are as accurate as the package."""
    for around, across in LATTICES:
        others, taken, failed = [], [], []
        for k, mask in enumerate(images):
            begin = time.process_time()
            try:
                found = taylor_hood_map(mask, spacing, around, across)
            except RuntimeError:
                failed.append(k)
                continue
            taken.append(time.process_time() - begin)
            others.append(distance(found, fine[k]))
        if not taken:
            print(f"    Taylor-Hood, {around} x {across} x 2: no mask converged", flush=True)
            continue
        show(f"    Taylor-Hood, {around} x {across} x 2 triangles", np.array(taken), np.array(others))
        ratio = np.median(np.array(taken) / np.delete(seconds, failed))
        print(
            f"      {ratio:.1f} x the seconds of the same masks; {len(failed)} did not converge", flush=True
        )
        if np.median(others) <= np.median(np.delete(errors, failed)):
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
        for mask in track(masks, name, count, console=Console(stderr=True)):
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
