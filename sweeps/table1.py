"""Run the paper's protocol (Table 1): random selection, SNN and SNN's two controls, on paired seeds.

A seed gives all arms the same validation set, first round, initialisation and batches. The controls step as far
in a random direction, or not at all, so that a gain of SNN over them is the gradient's.
"""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alss_ray import cli, records
from alss_ray.config import Experiment, UsageError
from alss_ray.display import print_next_steps, print_table
from alss_ray.published import TABLE1
from alss_ray.strategies import Random, Snn
from alss_ray.sweep import Sweep, SweepOptions, run


@dataclass(frozen=True)
class Table1Options(SweepOptions):
    """Where the table's runs go and what they run on."""

    seeds: int = 5
    """Number of paired seeds, from --seed upwards."""


def arms(base: Experiment) -> dict[str, Experiment]:
    """The rows of the table, by name."""
    snn = base.strategy
    control = {name: dataclasses.replace(snn, direction=name) for name in ("random", "none")}
    return {
        "random": dataclasses.replace(base, strategy=Random(), generator=None),
        "SNN": base,
        "SNN, random direction": dataclasses.replace(base, strategy=control["random"]),
        "SNN, α = 0": dataclasses.replace(base, strategy=control["none"]),
    }


def replicates(arm: Experiment, seeds: int) -> list[Experiment]:
    """The arm once for each seed."""
    return [dataclasses.replace(arm, seed=arm.seed + k) for k in range(seeds)]


def show(folder: Path, base: Experiment, seeds: int) -> None:
    """Print the test metric's mean and standard deviation over the seeds, beside the paper's rows."""
    rows = records.read("rounds", [folder]).table.to_pylist()
    scale = 100 if base.task.higher_is_better else 1
    columns: dict[str, list[str]] = {}
    for name, arm in arms(base).items():
        wanted = {experiment.identity for experiment in replicates(arm, seeds)}
        columns[name] = []
        for t in range(1, base.rounds + 1):
            values = [
                scale * row["test_metric"] for row in rows if row["experiment"] in wanted and row["t"] == t
            ]
            spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
            columns[name].append(f"{np.mean(values):.2f}{spread}" if values else "-")
    for name, published in TABLE1.get(base.task.name, {}).items():
        columns[f"paper: {name}"] = [*map(str, published), *["-"] * base.rounds][: base.rounds]
    labels = [min(t * base.round_size, base.label_budget) for t in range(1, base.rounds + 1)]
    body = [
        [str(t + 1), str(labels[t]), *(values[t] for values in columns.values())] for t in range(base.rounds)
    ]
    unit = "%" if scale == 100 else ""
    print_table(
        f"Test {base.task.metric} {unit} on {base.task.name}, mean ± standard deviation over {seeds} paired seeds",
        ["t", "labels", *columns],
        body,
        f"n = {base.generator.latent_dim}, α = {base.strategy.alpha}, {base.iterations} iterations a round.",
    )


def work() -> int:
    """Parse, run, print."""
    parsed = cli.parse(Table1Options(), __doc__ or "", sys.argv[1:], "python sweeps/table1.py")
    base, options = parsed.experiment, parsed.options
    if not isinstance(base.strategy, Snn) or base.strategy.direction != "gradient":
        raise UsageError(
            "Table 1 compares SNN along the gradient with its controls; leave --strategy snn as it is."
        )
    if options.seeds < 1:
        raise UsageError(f"--seeds is {options.seeds}; give 1 or more.")
    rows = [replicates(arm, options.seeds) for arm in arms(base).values()]
    paired = [experiment for same_seed in zip(*rows, strict=True) for experiment in same_seed]
    folder, failures = run(Sweep("table1", options, base, experiments=paired))
    show(folder, base, options.seeds)
    print_next_steps(folder)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(cli.guarded(work))
