"""What a sweep is, as plain data, and how it is run. Ray is not needed to say it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from alss_ray.catalogue import experiment_from
from alss_ray.config import Experiment, Scalar, UsageError, Waiting, flatten
from alss_ray.display import print_next_steps, print_report
from alss_ray.generators.verdicts import print_generators
from alss_ray.places import Place
from alss_ray.reference import random_selection, whole_pool
from alss_ray.results import MANIFEST, default_folder, examine
from alss_ray.space import Point, Space, corners, describe
from alss_ray.waiting import patiently

HALVING = 3
"""Early stopping lets one trial in so many go on at a rung."""
REPORTING_SEEDS = 1_000_000
"""Seeds from here on confirm what was found with the seeds below."""


@dataclass(frozen=True)
class SweepOptions:
    """Where a sweep's results go and what it runs on."""

    results: Place | None = None
    """Results folder that all machines of the sweep see, on shared storage or on an object store (s3://bucket/path);
    results/<script>-<date>-<time> unless given."""
    resume: bool = False
    """Go on with the sweep that --results holds: finished trials stay, unfinished ones continue."""
    dry_run: bool = False
    """Say what the sweep would run, buy and train, and how long it would take: one trial is run for that, the first
    of the sweep, which buys its labels and is kept. --resume without --dry-run runs the rest."""
    address: str | None = None
    """Ray cluster to run on, 'auto' for the one of this machine; RAY_ADDRESS counts too. None starts a local Ray."""
    cpus_per_trial: float = 1
    """CPUs of each trial, and as many threads; a share of one where trials are to take turns."""
    gpus_per_trial: float | None = None
    """GPUs of each trial, or a share of one (0.25); 1 where the cluster has any, unless given."""
    concurrency: int | None = None
    """Trials at once at most; as many as the cluster has room for unless given."""
    cache: Place | None = None
    """Folder of trained generators, here or on an object store; ~/.cache/alss_ray/generators unless given."""
    oracle_workers: int | None = None
    """Processes that label for all trials, each on a CPU of its own; 0 lets trials label for themselves."""
    oracle_resource: str | None = None
    """A resource of the cluster's own that every oracle worker takes 1 of: oracle in cluster/gpu.yaml. Its machines may
    be started on demand, so the workers are waited for."""
    oracle_timeout: float = 600.0
    """Seconds after which a label is given up and its image refused."""
    wait: bool = False
    """Where people label, stay until the labels are there that trials wait for, and go on at once; otherwise stop when
    all that run are waiting, to be resumed."""
    reference: bool = True
    """Beside the trials, train once on every label of the pool, where the task's own oracle gives them in a minute:
    the level that learning curves approach."""

    def __post_init__(self) -> None:
        for name, amount in (("cpus", self.cpus_per_trial), ("gpus", self.gpus_per_trial)):
            least = "above 0" if name == "cpus" else "of 0 or more"
            if amount is not None and (amount < 0 or (name == "cpus" and amount == 0)):
                raise UsageError(f"--{name}-per-trial is {amount:g}; give a number {least}.")
            if amount is not None and amount > 1 and amount % 1:
                raise UsageError(
                    f"--{name}-per-trial is {amount:g}; give a share of one, or a whole number above 1."
                )
        if self.concurrency is not None and self.concurrency < 1:
            raise UsageError(f"--concurrency is {self.concurrency}; give 1 or more.")


@dataclass(frozen=True)
class PairedOptions(SweepOptions):
    """Where the runs go and what they run on."""

    seeds: int = 5
    """Number of paired seeds, from --seed upwards."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1:
            raise UsageError(f"--seeds is {self.seeds}; give 1 or more.")


@dataclass(frozen=True)
class Search:
    """What is searched, and what for."""

    space: Space
    trials: int = 20
    replicates: int = 1
    """Paired seeds of every trial; the search sees their mean."""
    objectives: tuple[str, ...] = ("aulc",)
    """'aulc' (alss_ray/metrics.py), and for a Pareto front 'oracle_seconds', as trials report them."""
    rungs: tuple[int, ...] = ()
    """Numbers of labels at which trials are compared and the worse ones stopped; none for no early stopping."""
    first: Sequence[Point] = ()
    """Points that are evaluated before the search proposes any."""
    each: str | None = None
    """A searched choice whose values get the same number of trials."""
    warm_start: Place | None = None
    """Results folder of an earlier search, whose trials count as evaluated already."""
    confirm: int = 0
    """The best so many configurations are run again on fresh seeds at the end."""
    confirm_seeds: int = 5


@dataclass(frozen=True)
class Sweep:
    """What is to be run: the trials of a search around `base`, or the given `experiments`."""

    name: str
    options: SweepOptions
    base: Experiment
    """The experiment of every trial where the space says nothing; its seed is the sweep's."""
    search: Search | None = None
    experiments: Sequence[Experiment] = ()

    def at(self, point: Mapping[str, Scalar]) -> Experiment:
        """The experiment at a point of the space, with the first seed."""
        return experiment_from({**flatten(self.base, identity_only=False), **point})

    @property
    def seeds(self) -> range:
        """The seeds of every trial."""
        return range(self.base.seed, self.base.seed + (self.search.replicates if self.search else 1))

    @property
    def reporting_seeds(self) -> range:
        """The fresh seeds of what is confirmed, disjoint from those of every search."""
        first = REPORTING_SEEDS + self.base.seed
        return range(first, first + (self.search.confirm_seeds if self.search else 0))

    def baseline(self, experiment: Experiment) -> Experiment:
        """Random selection with the same settings; where that is the strategy, the experiment around the search."""
        random = random_selection(experiment)
        return self.base if random == experiment else random

    @property
    def reference(self) -> Experiment | None:
        """The whole-pool experiment that runs beside the trials; None where none is wanted or it is listed itself."""
        from alss_ray.materials import materials

        known = whole_pool(self.base, materials(self.base.task).data) if self.options.reference else None
        listed = {experiment.identity for experiment in self.experiments}
        return None if known is None or known.identity in listed else known

    @property
    def modes(self) -> tuple[str, ...]:
        """'max' or 'min' for each objective."""
        aulc = "max" if self.base.task.higher_is_better else "min"
        objectives = self.search.objectives if self.search else ("aulc",)
        return tuple(aulc if name == "aulc" else "min" for name in objectives)

    def asked(self) -> dict[str, Any]:
        """What must be the same for the sweep to be resumed."""
        if self.search is None:
            listed = {e.identity: flatten(e) for e in self.experiments}
            return {"kind": "sweep", "name": self.name, "experiments": listed}
        space = self.search.space
        return {
            "kind": "sweep",
            "name": self.name,
            "space": describe(space),
            "experiment": {name: value for name, value in flatten(self.base).items() if name not in space},
            "objectives": self.search.objectives,
            "replicates": self.search.replicates,
            "rungs": self.search.rungs,
        }

    def check(self) -> None:
        """Raise UsageError for anything that would make a trial fail, before there is one."""
        from alss_ray.materials import check, materials

        if self.search is None:
            candidates = list(self.experiments)
        else:
            self._check_search(self.search)
            candidates = [self.at(point) for point in corners(self.search.space)]
        data = materials(self.base.task).data
        for experiment in candidates:
            check(experiment, data)

    def _check_search(self, search: Search) -> None:
        for name, least in (("trials", 1), ("replicates", 1), ("confirm", 0), ("confirm_seeds", 2)):
            if (value := getattr(search, name)) < least:
                raise UsageError(f"--{name.replace('_', '-')} is {value}; give {least} or more.")
        if self.base.seed + search.replicates > REPORTING_SEEDS:
            raise UsageError(
                f"--seed {self.base.seed} is too high for {search.replicates} replicates: seeds from "
                f"{REPORTING_SEEDS} are kept for --confirm."
            )
        if search.trials < len(search.first):
            raise UsageError(
                f"--trials is {search.trials}, but {len(search.first)} points are to be evaluated first; raise it."
            )
        if search.rungs and search.objectives != ("aulc",):
            raise UsageError(
                "--early-stopping compares trials by their AULC alone; leave it or --objectives out."
            )


@dataclass(frozen=True)
class Confirmation:
    """A configuration that a search found, to be run again on fresh seeds beside its baseline."""

    point: Point
    tuned: float
    """The objective that the search saw."""
    experiment: Experiment
    baseline: Experiment
    """Random selection with the same settings."""


@dataclass(frozen=True)
class Outcome:
    """What became of a sweep."""

    folder: Place
    failures: int = 0
    """Trials that failed."""
    confirmations: Sequence[Confirmation] = ()


def replicated(experiment: Experiment, seeds: Sequence[int]) -> list[Experiment]:
    """The experiment once for each seed."""
    return [dataclasses.replace(experiment, seed=seed) for seed in seeds]


def side_by_side(arms: Collection[Experiment], seeds: Sequence[int]) -> list[Experiment]:
    """Every arm on every seed, seed by seed: a sweep that is cut short has whole pairs."""
    return [dataclasses.replace(arm, seed=seed) for seed in seeds for arm in arms]


def run_and_show(sweep: Sweep, show: Callable[[Outcome], None]) -> int:
    """Run a sweep, then have shown what came of it, where it lies and what to do next; returns the exit status."""
    outcome = run(sweep)
    if not sweep.options.dry_run:
        show(outcome)
        print_generators(outcome.folder)
        print_next_steps(outcome.folder)
        print_report(outcome.folder)
    return 1 if outcome.failures else 0


def run(sweep: Sweep) -> Outcome:
    """Run a sweep on Ray, or as much of it as a dry run needs.

    Raises:
        UsageError: bad input, told before any trial starts.
        Waiting: trials cannot go on before people have labelled, with a word on how to go on then.
        KeyboardInterrupt: Ctrl-C, with the same.
    """
    folder = Place(sweep.options.results or default_folder(sweep.name)).absolute()
    console = Console(stderr=True)
    patiently(sweep.check, sweep.options.wait, console)
    examine(folder, sweep.asked(), sweep.options.resume)
    from alss_ray.tune import run_trials  # Ray takes seconds to import: bad input is told before

    def work() -> Outcome:
        options = dataclasses.replace(sweep.options, resume=(folder / MANIFEST).exists())
        return run_trials(dataclasses.replace(sweep, options=options), folder)

    try:
        return patiently(work, sweep.options.wait, console)
    except Waiting as waiting:
        waiting.then = f"add --results {folder} --resume to the same command"
        raise
    except KeyboardInterrupt:
        print(f"Interrupted; nothing is lost. Add --results {folder} --resume to go on.", file=sys.stderr)
        raise
