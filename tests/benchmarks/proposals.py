"""The cost of one proposal from a large pool, for every strategy, in passes of F over that pool.

    OMP_NUM_THREADS=1 python tests/benchmarks/proposals.py
    OMP_NUM_THREADS=1 python tests/benchmarks/proposals.py --task ivus --pool 6000 --round-size 20

Images, codes and labels are drawn at random and the networks are untrained: costs hardly depend on them. One pass of F
over the pool is timed first and once more at the end, and every strategy is given as a multiple of their mean.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import faiss
import torch

from alss_ray import rng
from alss_ray.generators.base import Embedding
from alss_ray.generators.vae import Vae
from alss_ray.labelled import LabelledSet
from alss_ray.strategies import STRATEGIES
from alss_ray.strategies.base import View
from alss_ray.strategies.outputs import outputs
from alss_ray.tasks import TASKS
from alss_ray.tasks.base import Classification
from alss_ray.training import images_seen

SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32), "ivus": (1, 64, 64)}
LATENT_DIM, MEMBERS = 16, 3


def situation(task: Any, pool: int, labelled: int) -> View:
    """The second round on a pool of random images, `labelled` of which have labels."""
    draws = torch.Generator().manual_seed(0)
    shape = SHAPES[task.name]
    images = torch.randint(256, (pool, *shape), dtype=torch.uint8, generator=draws)
    with rng.scope(0, "benchmark"):
        networks = [task.network().eval().to(memory_format=torch.channels_last) for _ in range(MEMBERS)]
        encoder, decoder = Vae(latent_dim=LATENT_DIM).modules(shape)
    codes = torch.randn(pool, LATENT_DIM, generator=draws)
    embedding = Embedding.frozen(encoder, decoder, codes, torch.device("cpu"))
    rows = torch.randperm(pool, generator=draws)[:labelled]
    answers = outputs(networks[0], images[rows])
    targets = answers.argmax(1) if isinstance(task, Classification) else answers
    known = LabelledSet.empty(images).append(images[rows], targets, rows, 1, made=False, points=codes[rows])
    free = torch.ones(pool, dtype=torch.bool)
    free[rows] = False
    nothing = torch.zeros_like(free)
    return View(2, networks[0], images, free, nothing, known, task.loss, embedding, members=networks)


def timed(work: Callable[[], Any]) -> float:
    """Seconds by the clock."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--task", default="mnist", choices=sorted(SHAPES))
    parser.add_argument("--pool", type=int, default=60_000)
    parser.add_argument("--round-size", type=int, default=500)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    task = TASKS[asked.task]()
    view = situation(task, asked.pool, asked.round_size)
    kind = "classes" if isinstance(task, Classification) else "maps"
    fitting = {
        name: strategy()
        for name, strategy in STRATEGIES.items()
        if strategy.learns in ("anything", kind) and not (kind == "classes" and strategy.makes_images)
    }

    def one_pass() -> float:
        return timed(lambda: outputs(view.network, view.images))

    one_pass()  # the first one allocates
    passes = [one_pass()]
    took: dict[str, tuple[float, int]] = {}
    for name, strategy in fitting.items():
        with images_seen(view.members) as seen:
            seconds = timed(lambda: strategy.propose(view, asked.round_size, rng.stream(0, "proposal")))  # noqa: B023
        took[name] = seconds, seen.images
    passes.append(one_pass())
    unit = statistics.fmean(passes)
    print(
        f"{asked.task}: {asked.round_size} proposals from a pool of {asked.pool:,}; one pass of F: "
        f"{passes[0]:.2f} s before, {passes[1]:.2f} s after"
    )
    print(f"{'strategy':<20} {'passes':>8} {'seconds':>9} {'images scored':>14}")
    for name, (seconds, images) in sorted(took.items(), key=lambda item: item[1]):
        print(f"{name:<20} {seconds / unit:>8.2f} {seconds:>9.2f} {images:>14,}")


if __name__ == "__main__":
    main()
