"""One proposal's neighbour search beside exhaustive search in torch: 500 points from pools of two sizes.

    OMP_NUM_THREADS=1 python tests/benchmarks/neighbours.py

Aims: 60,000 codes of n = 3 in at most 100 ms and 1,000,000 of n = 16 in at most 2 s on one core, index included.
"""

import time

import faiss
import numpy as np
import torch

from alss_ray.neighbours import nearest_free

POINTS, REPEATS = 500, 5


def exhaustive(codes: torch.Tensor, points: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """The same greedy choice from the full matrix of distances in float64."""
    distances = torch.cat([torch.cdist(part, codes) for part in points.double().split(50)])
    distances[:, ~free] = torch.inf
    chosen = torch.empty(len(points), dtype=torch.int64)
    for k, row in enumerate(distances):
        chosen[k] = row.argmin()
        distances[:, chosen[k]] = torch.inf
    return chosen


def main() -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    print(f"{'pool':>10} {'n':>3} {'ours, ms':>10} {'exhaustive, ms':>15} {'ratio':>6}  equal neighbours")
    for size, n in ((60_000, 3), (1_000_000, 16)):
        draws = np.random.default_rng(0)
        codes = draws.standard_normal((size, n), dtype=np.float32)
        labelled = draws.choice(size, size // 20, replace=False)
        free = np.ones(size, bool)
        free[labelled] = False
        steps = draws.standard_normal((POINTS, n), dtype=np.float32)
        points = codes[labelled[:POINTS]] + 0.3 * steps / np.linalg.norm(steps, axis=1, keepdims=True)
        ours = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            found = nearest_free(codes, points, free)
            ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        wanted = exhaustive(
            torch.from_numpy(codes).double(), torch.from_numpy(points), torch.from_numpy(free)
        )
        other = time.perf_counter() - started
        # Turns differ where a point has to look beyond its first neighbours, so sets are compared, then distances.
        same = len(np.intersect1d(found.indices, wanted.numpy())) / POINTS
        median = float(np.median(ours))
        print(
            f"{size:>10,} {n:>3} {1e3 * median:>10.1f} {1e3 * other:>15.1f} {other / median:>5.1f}x  {same:.1%}"
        )


if __name__ == "__main__":
    main()
