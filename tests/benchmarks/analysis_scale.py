"""The analysis on a store of 100,000 experiments of 10 rounds, and how it grows from 1,000 experiments on.

    OMP_NUM_THREADS=1 python tests/benchmarks/analysis_scale.py [--experiments 1000 10000 100000] [--folder DIR]

Aims at 100,000 experiments (1,000,000 rows), compacted: a grouped query in 0.5 s and 1 GB, compare.py in 10 s,
report.py in 30 s with a page of 10 MB. The store is made here: 100 arms on paired seeds, a stream of 10 batches each,
as experiments leave them. Each step is a process of its own, started as people start it; its memory is the most that it
held (getrusage). "answer alone" is the SQL within such a process. 100,000 experiments take 6 GB of disk.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from alss_ray import provenance
from alss_ray.config import Experiment, flatten
from alss_ray.generators import Vae
from alss_ray.records import FOLDER, SUFFIX, schema
from alss_ray.strategies import Random, Snn
from alss_ray.tasks import Digits

ROOT = Path(__file__).parents[2]
ROUNDS = 10
ARMS = 100
SEED = 0x5EED5EED5EED  # what a seed is written over
DIRECTIONS = ("gradient", "random", "none")
DRAWN = ("val_metric", "test_metric", "val_aulc", "test_aulc")
GROUPED = "select strategy, direction, t, avg(test_metric), count(*) from rounds group by all order by all"
TRIALS = "select strategy, alpha, avg(val_aulc), sum(oracle_seconds) from trials group by all order by all"
TARGETS = "select strategy, alpha, median(test_labels_to_0_9) from trials group by all order by all"
ANSWER = """
import sys, time
sys.path.insert(0, sys.argv[1])
import query
database = query.open_views([sys.argv[2]])
for _ in range(3):
    started = time.perf_counter()
    query.answer(database, sys.argv[3])
    print(time.perf_counter() - started)
"""


def arms() -> list[Experiment]:
    """One of random selection, the others of SNN."""
    base = Experiment(task=Digits(), strategy=Random(), round_size=20, label_budget=20 * ROUNDS, seed=SEED)
    steps = [Snn(alpha=0.05 * (k + 1), direction=DIRECTIONS[k % 3]) for k in range(ARMS - 1)]
    return [base, *(dataclasses.replace(base, strategy=step, generator=Vae()) for step in steps)]


def template(experiment: Experiment, drawn: np.ndarray) -> bytearray:
    """A stream as an experiment leaves it, a batch a round; `drawn`, 4 x rounds, stands for its metrics and AULCs."""
    columns = schema("rounds", experiment)
    t = np.arange(1, ROUNDS + 1)
    values: dict[str, Any] = {
        "experiment": experiment.identity, "configuration": experiment.configuration, "attempt": 0,
        **flatten(experiment), "t": t, "n_labels": experiment.round_size * t, "n_val_labels": 40,
        **dict(zip(DRAWN, drawn, strict=True)), "val_guess": 0.1, "test_guess": 0.1, "metric": "accuracy",
        "higher_is_better": True, "data_hash": "5d41402abc4b", "parameters": 9610,
        "versions": provenance.versions(), "git_commit": "0123456789ab", "host": "node-17 (64 CPUs)",
        "cpu": "AMD EPYC 7763 64-Core Processor", "device": "cpu", "threads": 1, "refusal_reasons": "{}",
        "generator_key": "c157a79031e1", "generator_trained": False,
        "recorded_at": 1_700_000_000_000_000 + 10**6 * t,
    }  # fmt: skip
    arrays = []
    for column in columns:
        value = values.get(column.name, t)
        constant = not isinstance(value, np.ndarray)
        whole = (
            pa.repeat(pa.scalar(value, column.type), ROUNDS)
            if constant
            else pa.array(value).cast(column.type)
        )
        arrays.append(whole)
    batch = pa.RecordBatch.from_arrays(arrays, schema=columns)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, columns) as stream:
        for k in range(ROUNDS):
            stream.write_batch(batch.slice(k, 1))
    return bytearray(sink.getvalue())


def make(folder: Path, number: int) -> int:
    """Write the store's streams; returns their bytes.

    One stream an arm is made by Arrow. The others are its copies with identity, seed, metrics and AULCs replaced
    in place, for 100,000 made one by one would take longer than all that is measured.
    """
    (folder / FOLDER).mkdir(parents=True)
    draw = np.random.default_rng(0)
    t = np.arange(1, ROUNDS + 1)
    size = 0
    for k, experiment in enumerate(arms()):
        marks = draw.random((4, ROUNDS))
        stream = template(experiment, marks)
        identities = [found.start() for found in re.finditer(experiment.identity.encode(), stream)]
        seeds = [found.start() for found in re.finditer(re.escape(SEED.to_bytes(8, "little")), stream)]
        places = [[stream.find(mark.tobytes()) for mark in row] for row in marks]
        assert len(seeds) == ROUNDS
        for seed in range(number // ARMS):
            metric = 0.95 + 0.0002 * k - 0.4 * np.exp(-t / 3) + draw.normal(0, 0.01, ROUNDS)
            val = metric + draw.normal(0, 0.01, ROUNDS)
            identity = hashlib.sha256(f"{k} {seed}".encode()).hexdigest()[:12]
            for at in identities:
                stream[at : at + 12] = identity.encode()
            for at in seeds:
                stream[at : at + 8] = seed.to_bytes(8, "little")
            rows = (val, metric, np.cumsum(val) / t, np.cumsum(metric) / t)
            for row, offsets in zip(rows, places, strict=True):
                for value, at in zip(row, offsets, strict=True):
                    stream[at : at + 8] = value.tobytes()
            (folder / FOLDER / f"{identity}-000.rounds{SUFFIX}").write_bytes(stream)
            size += len(stream)
    return size


def measured(*words: str | Path) -> tuple[float, float, str]:
    """Run a Python process: its seconds, the most memory that it held in MB, and what it printed."""
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
        "sys.stdout.write(done.stdout); sys.stderr.write(done.stderr[-2000:])\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(done.returncode)"
    )
    command = [sys.executable, "-c", code, sys.executable, *map(str, words)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stderr}")
    *lines, peak = done.stdout.splitlines()
    return seconds, int(peak) / 1e3, "\n".join(lines)


def report(size: int, what: str, seconds: float, peak: float, more: str = "") -> None:
    print(f"{size:>9,} {what:<44} {seconds:>8.2f} s {peak:>7,.0f} MB  {more}", flush=True)


def steps(folder: Path, number: int, compacted_only: bool) -> None:
    rows, analysis = ROUNDS * number, ROOT / "analysis"
    started = time.perf_counter()
    size = make(folder, number)
    print(
        f"{rows:>9,} rows in {number:,} streams of {size / 1e6:,.0f} MB, made in {time.perf_counter() - started:.0f} s"
    )

    def ask(name: str, sql: str, *words: str) -> None:
        seconds, peak, _ = measured(analysis / "query.py", folder, sql, "--format", "csv", *words)
        _, _, printed = measured("-c", ANSWER, analysis, folder, sql) if not words else (0, 0, "nan")
        answers = ", ".join(f"{float(line):.3f}" for line in printed.splitlines())
        report(rows, name, seconds, peak, "" if words else f"answer alone, three times: {answers} s")

    if not compacted_only:
        ask("query of streams, grouped", GROUPED)
    seconds, peak, _ = measured(analysis / "compact.py", folder)
    kept = (folder / FOLDER / "rounds.parquet").stat().st_size
    report(rows, "compaction", seconds, peak, f"Parquet {kept / 1e6:,.0f} MB")
    ask("query, grouped", GROUPED)
    ask("query of trials, grouped", TRIALS)
    ask("query of labels to a target", TARGETS, "--targets", "0.9")
    for script, words in (("compare.py", ("--by", "strategy,direction")), ("report.py", ())):
        if not (analysis / script).exists():
            print(f"{rows:>9,} {script}: not there")
            continue
        seconds, peak, _ = measured(analysis / script, folder, *words)
        page = folder / "report.html"
        more = f"page {page.stat().st_size / 1e6:.1f} MB" if script == "report.py" else ""
        report(rows, " ".join((script, *words)), seconds, peak, more)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiments", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--compacted-only", action="store_true", help="ask nothing before the compaction")
    parser.add_argument(
        "--folder", type=Path, help="where the stores are made; a temporary folder unless given"
    )
    options = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the start")
    for number in options.experiments:
        with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
            steps(Path(scratch) / "sweep", number, options.compacted_only)


if __name__ == "__main__":
    main()
