"""What the oracle service costs and how it balances.

    OMP_NUM_THREADS=1 python tests/benchmarks/oracle_service.py [--jobs 200]

Aims: two workers at least 1.8 times as fast as one, and at most 1.15 times the ideal, which is the work divided
by the workers. A sleeping oracle stands for the solver, so that two workers fit on any machine and nothing but
the service is measured: jobs of 0.2 s, and uneven ones of 0.05 to 0.8 s, log-uniform from a fixed seed.
Overhead a label is the time beyond the ideal, times the workers, divided by the labels. Ray's start and the
workers' are left out; the label cache is on and empty.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import dataclass

import ray
import torch

from alss_ray.oracles.base import ImageBatch, Labels
from alss_ray.oracles.service import open_service

EVEN = 0.2  # seconds
UNEVEN = (0.05, 0.8)


@dataclass(frozen=True)
class Sleeper:
    """Sleeps for as many milliseconds as an image's first two pixels say; its label is as large as the image."""

    run: str

    def label(self, images: ImageBatch) -> Labels:
        time.sleep(sum(milliseconds(images)) / 1000)
        return Labels(images.images.float())


def milliseconds(images: ImageBatch) -> list[int]:
    return (images.images[:, 0, 0, 0].int() * 256 + images.images[:, 0, 0, 1]).tolist()


def jobs(seconds: torch.Tensor) -> ImageBatch:
    """64x64 images that differ and hold their own duration."""
    images = torch.randint(256, (len(seconds), 1, 64, 64), generator=torch.Generator().manual_seed(1))
    whole = (seconds * 1000).round().int()
    images[:, 0, 0, 0], images[:, 0, 0, 1] = whole // 256, whole % 256
    return ImageBatch(images.to(torch.uint8), torch.full((len(seconds),), -1))


def measure(name: str, images: ImageBatch, workers: int) -> float:
    """Seconds from the question to the last label."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open_service(Sleeper(f"{name} {workers}"), workers, math.inf, folder) as service,
    ):
        started = time.perf_counter()
        labels = service.oracle.label(images)
        seconds = time.perf_counter() - started
        assert torch.equal(labels.values, images.images.float())
        assert service.oracle.tally.bought == len(images)
        started = time.perf_counter()
        service.oracle.label(images)
        print(
            f"{name}, again from the cache: {(time.perf_counter() - started) * 1e3 / len(images):.2f} ms a label"
        )
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=200)
    count = parser.parse_args().jobs
    low, high = map(math.log, UNEVEN)
    uneven = torch.rand(count, generator=torch.Generator().manual_seed(0)) * (high - low) + low
    sets = {"no work": torch.zeros(count), "even": torch.full((count,), EVEN), "uneven": uneven.exp()}
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    rows = []
    for name, seconds in sets.items():
        images = jobs(seconds)
        work, alone = sum(milliseconds(images)) / 1000, math.nan
        for workers in (1, 2):
            taken = measure(name, images, workers)
            alone = taken if workers == 1 else alone
            ideal = work / workers
            over = (taken - ideal) * workers / count * 1e3
            rows.append(
                (name, workers, work, taken, alone / taken, taken / ideal if ideal else math.nan, over)
            )
    ray.shutdown()
    print(f"\n{count} jobs    workers  work s  taken s  speed-up  of ideal  ms overhead a label")
    for name, workers, work, taken, faster, ratio, over in rows:
        print(f"{name:11}{workers:8}{work:9.1f}{taken:9.2f}{faster:9.2f}x{ratio:9.3f}x{over:9.2f}")


if __name__ == "__main__":
    main()
