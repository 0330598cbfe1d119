"""What a sweep gains over a plain loop, what a trial and a report cost, what sharing saves, and the memory it takes.

    OMP_NUM_THREADS=1 python tests/benchmarks/sweep_throughput.py [throughput overhead sharing memory]

throughput: 16 digits experiments of 15 rounds as a sweep, Ray's start included; one after the other in a loop in this
process; and in as many loops side by side as there are CPUs, which is what the machine can give. One thread each, the
generator trained before. Aim on two cores: 1.7 times the loop's trials a minute.

overhead: experiments of one round with hardly any work, one trial at a time, and one experiment of 100 such rounds.
What lies between the `recorded_at` of two trials, or of two rounds, less the same in the loop; medians. The first trial
starts its worker and is left out. Aims: 0.5 s a trial, 20 ms a report.

sharing: a sweep of 16 IVUS trials over four step sizes and four latent dimensions, as sweeps are, and the same where
every trial trains its own generator and buys its own labels. Masks are counted where the solver is given them.

memory: PSS before a sweep's first trial, in the middle of one, and after it, with Ray still up.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import itertools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from standins import CountedIvus, Memory, OwnVae, StandIn, load, memory, told

from alss_ray import reading
from alss_ray.config import Experiment
from alss_ray.experiment import Run
from alss_ray.generators import Vae
from alss_ray.generators.store import GeneratorStore
from alss_ray.materials import materials
from alss_ray.places import Place
from alss_ray.space import Float
from alss_ray.strategies import Random, Snn
from alss_ray.sweep import Search, Sweep, SweepOptions, replicated, run
from alss_ray.tasks import Digits

TRIALS = 16
IDLE_TRIALS, IDLE_ROUNDS = 40, 100
PHASES = ("propose", "label", "append", "fit", "evaluate", "checkpoint")
ALPHAS, LATENT_DIMS = (0.1, 0.3, 1.0, 3.0), (2, 3, 5, 8)


def looped(experiments: Sequence[Experiment], folder: Path, cache: Path) -> float:
    """Seconds of the experiments one after the other in this process."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    for experiment in experiments:
        list(Run(experiment, materials(experiment.task), folder, GeneratorStore(cache)).rounds())
    return time.perf_counter() - started


def side_by_side(experiments: Sequence[Experiment], folder: Path, cache: Path) -> float:
    """Seconds of the experiments in one plain process a CPU, their start included."""
    count, started = os.cpu_count() or 1, time.perf_counter()
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        parts = [experiments[k::count] for k in range(count)]
        list(pool.map(looped, parts, [folder] * count, [cache] * count))
    return time.perf_counter() - started


def swept(
    experiments: Sequence[Experiment], folder: Path, cache: Path, search: Search | None = None, **options: Any
) -> float:
    """Seconds of a sweep of them, or of a search around the first."""
    where = SweepOptions(results=Place(folder), cache=Place(cache), **options)
    started = time.perf_counter()
    outcome = run(Sweep("benchmark", where, experiments[0], search, () if search else experiments))
    assert outcome.failures == 0
    return time.perf_counter() - started


def digits() -> list[Experiment]:
    """The digits task as it comes, on 16 seeds: some 6 s each on a core."""
    base = Experiment(
        task=Digits(), strategy=Snn(), generator=Vae(generator_iterations=500), round_size=20,
        label_budget=300, iterations=100,
    )  # fmt: skip
    return replicated(base, range(TRIALS))


def throughput(folder: Path) -> None:
    experiments = digits()
    looped(
        [dataclasses.replace(experiments[0], seed=TRIALS)], folder / "before", folder
    )  # trains the generator
    seconds = {
        "loop": looped(experiments, folder / "loop", folder),
        "loops side by side": side_by_side(experiments, folder / "loops side by side", folder),
    }
    started = datetime.datetime.now(datetime.timezone.utc)
    seconds["sweep"] = swept(experiments, folder / "sweep", folder)
    for name, whole in seconds.items():
        rows = reading.read("rounds", [folder / name]).table.to_pylist()
        each = sum(row[f"{phase}_seconds"] for row in rows for phase in PHASES) / TRIALS
        print(
            f"{name:19}{whole:8.1f} s{60 * TRIALS / whole:7.1f} trials a minute{each:8.2f} s an experiment, "
            f"{seconds['loop'] / whole:.2f} times the loop"
        )
    first = (min(row["recorded_at"] for row in rows) - started).total_seconds()
    print(f"the sweep's first round was recorded after {first:.1f} s")


def overhead(folder: Path) -> None:
    base = Experiment(task=StandIn(), strategy=Random(), round_size=10, label_budget=10, iterations=1)
    trials = replicated(base, range(IDLE_TRIALS))
    search = Search({"learning_rate": Float(1e-4, 1e-1, log=True)}, IDLE_TRIALS)
    long = dataclasses.replace(
        base, round_size=1, label_budget=IDLE_ROUNDS, validation_share=0.1, task=StandIn(size=2 * IDLE_ROUNDS)
    )
    looped(trials, folder / "loop", folder)
    looped([long], folder / "long-loop", folder)
    swept(trials, folder / "listed", folder, concurrency=1)
    swept([base], folder / "searched", folder, search, concurrency=1)
    swept([long], folder / "long", folder)
    for name, other in (("listed", "loop"), ("searched", "loop"), ("long", "long-loop")):
        here, there = gaps(folder / name), gaps(folder / other)
        what = "a report" if name == "long" else f"a trial that is {name}"
        print(
            f"{what}: {1e3 * (statistics.median(here) - statistics.median(there)):.1f} ms beyond the loop's "
            f"{1e3 * statistics.median(there):.1f} (quartiles {quartiles(here)}, the loop's {quartiles(there)})"
        )


def gaps(folder: Path) -> list[float]:
    """Seconds between two records, without the first trial's."""
    at = sorted(reading.read("rounds", [folder]).table["recorded_at"].to_pylist())
    return [(b - a).total_seconds() for a, b in itertools.pairwise(at)][1:]


def quartiles(values: Sequence[float]) -> str:
    low, _, high = statistics.quantiles(values, n=4)
    return f"{1e3 * low:.1f} to {1e3 * high:.1f}"


def sharing(folder: Path) -> None:
    seconds, masks, trained = {}, {}, {}
    for name in ("shared", "not shared"):
        book, kept = folder / f"{name} book", name == "shared"
        task = CountedIvus(labels=Place(folder / "labels"), kept=kept, book=book)
        materials(task)  # the test set is labelled before
        base = Experiment(task=task, strategy=Snn(), round_size=20, label_budget=60, batch_size=20,
                          iterations=20, evaluate_every=0, learning_rate=5e-3)  # fmt: skip
        experiments = [
            dataclasses.replace(
                base,
                strategy=Snn(alpha),
                generator=(Vae if kept else OwnVae)(
                    n, generator_iterations=200, generator_batch_size=32, **({} if kept else {"copy": k})
                ),
            )
            for k, (alpha, n) in enumerate(itertools.product(ALPHAS, LATENT_DIMS))
        ]
        seconds[name] = swept(experiments, folder / name, folder / f"{name} generators")
        masks[name] = sum(map(int, book.read_text().split()))
        trained[name] = len(list((folder / f"{name} generators").glob("*.safetensors")))
        print(
            f"{name:11}{seconds[name]:8.1f} s, {masks[name]} masks solved, {trained[name]} generators trained",
            flush=True,
        )
    for what, of in (("time", seconds), ("masks", masks), ("generators", trained)):
        print(f"{what}: {of['not shared'] / of['shared']:.2f} times as much without sharing")


def at_rest_and_at_work(folder: Path) -> None:
    from alss_ray.tune.cluster import connected

    experiments = digits()[:6]
    print(f"before Ray: {told(memory())}")
    with connected(SweepOptions()):
        time.sleep(5)
        print(f"Ray up, no trial yet: {told(memory())}")
        with Memory(1.0) as sizes:
            swept(experiments, folder / "sweep", folder)
        print(f"at work, at most: {told(sizes.most)}")
        time.sleep(5)
        print(f"after the sweep: {told(memory())}")


PARTS = {"throughput": throughput, "overhead": overhead, "sharing": sharing, "memory": at_rest_and_at_work}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=[], help=f"of {', '.join(PARTS)}; all unless given")
    wanted = parser.parse_args().parts or list(PARTS)
    for name in wanted:
        print(f"\n{name}: {load()}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](Path(folder))
        print(load(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
