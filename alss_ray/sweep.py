"""What a sweep is, as plain data, and what the scripts in sweeps/ have in common. Ray is not needed to say it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from alss_ray import cli, reading
from alss_ray.catalogue import experiment_from
from alss_ray.config import Experiment, UsageError, flatten
from alss_ray.display import print_next_steps, print_table, shown
from alss_ray.results import default_folder, examine
from alss_ray.space import Space, corners, describe

OBJECTIVE = "val_aulc"
BEST = 5  # trials shown at the end


@dataclass(frozen=True)
class SweepOptions:
    """Where a sweep's results go and what it runs on."""

    results: Path | None = None
    """Results folder, on storage that all machines of the sweep see; results/<script>-<date>-<time> unless given."""
    resume: bool = False
    """Go on with the sweep that --results holds: finished trials stay, unfinished ones continue."""
    address: str | None = None
    """Ray cluster to run on, 'auto' for the one of this machine; RAY_ADDRESS counts too. None starts a local Ray."""
    cpus_per_trial: int = 1
    """CPUs, and threads, of each trial."""
    gpus_per_trial: float | None = None
    """GPUs of each trial; 1 where the cluster has any, unless given."""
    cache: Path | None = None
    """Folder of trained generators on each machine; ~/.cache/alss_ray/generators unless given."""
    oracle_workers: int | None = None
    """Processes that label for all trials, each on a CPU of its own; 0 lets trials label for themselves."""
    oracle_timeout: float = 600.0
    """Seconds after which a label is given up and its image refused."""


@dataclass(frozen=True)
class Sweep:
    """What is to be run: `trials` points searched in `space` around `base`, or the given `experiments`."""

    name: str
    options: SweepOptions
    base: Experiment
    """The experiment of every trial where the space says nothing; its seed is the sweep's."""
    space: Space | None = None
    trials: int = 0
    experiments: Sequence[Experiment] = ()

    def asked(self) -> dict[str, Any]:
        """What must be the same for the sweep to be resumed."""
        if self.space is None:
            return {
                "kind": "sweep",
                "name": self.name,
                "experiments": {e.identity: flatten(e) for e in self.experiments},
            }
        fixed = {name: value for name, value in flatten(self.base).items() if name not in self.space}
        return {"kind": "sweep", "name": self.name, "space": describe(self.space), "experiment": fixed}

    def check(self) -> None:
        """Raise UsageError for anything that would make a trial fail, before there is one."""
        if self.options.cpus_per_trial < 1:
            raise UsageError(f"--cpus-per-trial is {self.options.cpus_per_trial}; give 1 or more.")
        from alss_ray.materials import check, materials

        data = materials(self.base.task).data
        if self.space is None:
            candidates = list(self.experiments)
        else:
            if self.trials < 1:
                raise UsageError(f"--trials is {self.trials}; give 1 or more.")
            base = flatten(self.base, identity_only=False)
            candidates = [experiment_from({**base, **point}) for point in corners(self.space)]
        for experiment in candidates:
            check(experiment, data)


@dataclass(frozen=True)
class SearchOptions(SweepOptions):
    """Where a search's results go, how long it is, and what it runs on."""

    trials: int = 20
    """Number of trials, those of an interrupted sweep that is resumed included."""


def search(description: str, space: Callable[[Experiment], Space]) -> int:
    """The whole of a search script: read its command line, search, show the best; returns the exit status.

    Args:
        space: the search space that suits an experiment. A parameter that stands on the command line is fixed
            at that value instead.
    """
    name = Path(sys.argv[0]).stem

    def work() -> int:
        parsed = cli.parse(SearchOptions(), description, sys.argv[1:], f"python sweeps/{name}.py")
        base, options = parsed.experiment, parsed.options
        searched = {key: part for key, part in space(base).items() if key not in parsed.given}
        if unknown := searched.keys() - flatten(base).keys():
            raise UsageError(
                f"The strategy {flatten(base)['strategy']} has no {min(unknown)} to search; choose another --strategy."
            )
        if not searched:
            raise UsageError(
                "Every parameter of the search space is fixed on the command line; leave one out."
            )
        sweep = Sweep(name, options, base, space=searched, trials=options.trials)
        folder, failures = run(sweep)
        show_best(folder, sorted(searched), base.task.higher_is_better)
        print_next_steps(folder)
        return 1 if failures else 0

    return cli.guarded(work)


def run(sweep: Sweep) -> tuple[Path, int]:
    """Run a sweep on Ray; returns its results folder and the number of trials that failed.

    Raises:
        UsageError: bad input, told before any trial starts.
        KeyboardInterrupt: Ctrl-C, with a word on how to go on.
    """
    folder = (sweep.options.results or default_folder(sweep.name)).resolve()
    sweep.check()
    examine(folder, sweep.asked(), sweep.options.resume)
    from alss_ray.tune import run_trials  # Ray takes seconds to import: bad input is told before

    try:
        failures = run_trials(sweep, folder)
    except KeyboardInterrupt:
        print(f"Interrupted; nothing is lost. Add --results {folder} --resume to go on.", file=sys.stderr)
        raise
    return folder, failures


def show_best(folder: Path, searched: Sequence[str], higher_is_better: bool) -> None:
    """Print the best finished trials of a search."""
    table = reading.read("rounds", [folder]).table
    if not len(table):
        print("No trial has finished a round.")
        return
    last = table.filter(pc.equal(table["n_labels"], table["label_budget"]))
    order = "descending" if higher_is_better else "ascending"
    best = last.sort_by([(OBJECTIVE, order)]).slice(0, BEST).to_pylist()
    columns = [*searched, "AULC", "final validation", "final test", "experiment"]
    keys = [*searched, OBJECTIVE, "val_metric", "test_metric", "experiment"]
    trained = pc.sum(pc.equal(table["t"], 1).filter(table["generator_trained"])).as_py() or 0
    keys_used = len(pc.unique(table["generator_key"].drop_null()))
    print_table(
        f"The best of {len(last)} finished trials",
        columns,
        [[shown(row[key]) for key in keys] for row in best],
        f"AULC: mean {best[0]['metric'] if best else 'metric'} of the validation curve from 0 labels to the budget. "
        f"Generators: {keys_used} used, {trained} trained in this sweep.",
    )
