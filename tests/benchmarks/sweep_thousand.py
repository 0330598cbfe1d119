"""A search of 100, 300 and 1,000 one-second trials on a cluster of 16 nodes that this machine simulates.

    OMP_NUM_THREADS=1 python tests/benchmarks/sweep_thousand.py [--trials 100 300 1000] [--nodes 16]

Does the driver keep up, what does it hold, and how does both grow? The trials take the whole way of a sweep's (Optuna
on SQLite, records, checkpoints, reports); only their experiment stands in for another: it sleeps a second and
trains a linear network for a step. Each node has one CPU by Ray's count, whatever the machine has. "at once" is the
mean number of trials that slept; "driver" its CPU time (without the benchmark's own) for a trial and as a share of
the time that went by, MB its memory (PSS); "first" and "last" are the seconds between two trials' ends in the first
and the last fifty.
"""

from __future__ import annotations

import argparse
import cProfile
import datetime
import itertools
import os
import pstats
import statistics
import tempfile
import time
from pathlib import Path

import ray
import torch
from ray.cluster_utils import Cluster
from standins import Memory, StandIn, load, told

from alss_ray import reading
from alss_ray.config import Experiment
from alss_ray.places import Place
from alss_ray.space import Float, Int
from alss_ray.strategies import Random
from alss_ray.sweep import Search, Sweep, SweepOptions, run

SPACE = {
    "learning_rate": Float(1e-4, 1e-1, log=True),
    "batch_size": Int(1, 64, log=True),
    "validation_share": Float(0.5, 1.0),
}
ENDS = 50  # trials at either end that are looked at by themselves


def measure(trials: int, address: str, folder: Path) -> str:
    """One line for a search of so many trials."""
    base = Experiment(task=StandIn(1.0), strategy=Random(), round_size=10, label_budget=10, iterations=1)
    options = SweepOptions(results=Place(folder), address=address, cache=Place(folder.parent / "generators"))
    sweep = Sweep("thousand", options, base, Search(SPACE, trials))
    cpu, started, wall = (
        time.process_time(),
        time.perf_counter(),
        datetime.datetime.now(datetime.timezone.utc),
    )
    with Memory(5.0) as sizes:
        assert run(sweep).failures == 0
    seconds = time.perf_counter() - started
    cpu = time.process_time() - cpu - sizes.cpu_seconds
    ended = sorted(reading.read("rounds", [folder]).table["recorded_at"].to_pylist())
    assert len(ended) == trials
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(ended)]
    begun = (ended[0] - wall).total_seconds()
    print(f"{trials} trials at most {told(sizes.most)}", flush=True)
    return (
        f"{trials:6}{seconds:9.1f}{begun:9.1f}{60 * trials / seconds:10.0f}{trials / seconds:9.1f}"
        f"{1e3 * cpu / trials:11.0f}{cpu / seconds:9.0%}{sizes.driver:8.0f}{sum(sizes.most.values()):9.0f}"
        f"{1e3 * statistics.fmean(gaps[:ENDS]):8.0f}{1e3 * statistics.fmean(gaps[-ENDS:]):8.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--profile", action="store_true", help="print where the driver's time goes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    print(load(), flush=True)
    cluster = Cluster(initialize_head=True, head_node_args=node)
    profile = cProfile.Profile()
    lines = []
    try:
        for _ in range(options.nodes - 1):
            cluster.add_node(**node)
        with tempfile.TemporaryDirectory() as folder:
            for trials in options.trials:
                if options.profile:
                    profile.enable()
                lines.append(measure(trials, cluster.address, Path(folder) / str(trials)))
                profile.disable()
                print(load(), flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(
        f"\n{options.nodes} nodes; s from the start to the first trial's end; ms from one trial's end to the next"
    )
    print("trials        s    first   a minute  at once  driver ms    share      MB   MB all   first    last")
    print("\n".join(lines))
    if options.profile:
        pstats.Stats(profile).sort_stats("cumtime").print_stats(60)


if __name__ == "__main__":
    main()
