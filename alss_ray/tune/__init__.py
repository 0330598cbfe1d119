"""Sweeps: a search space or a list of experiments becomes Ray Tune trials, each one whole experiment or several.

A trial keeps its state in the results folder under its experiments' identities, and the Optuna study keeps the
search's. An interrupted sweep is resumed from those two alone; Tune's own experiment state, which is pickled,
is never read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import sys
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
import ray
from optuna.trial import FrozenTrial
from ray import tune

from alss_ray import reading, results
from alss_ray.config import Experiment, UsageError, Waiting, flatten
from alss_ray.display import SweepDisplay, duration
from alss_ray.generators import store
from alss_ray.generators.desk import DeskSource
from alss_ray.generators.store import GeneratorStore
from alss_ray.materials import Materials, materials
from alss_ray.oracles.people import PeopleOracle
from alss_ray.oracles.service import PATIENCE, default_workers, open_service
from alss_ray.places import Place
from alss_ray.plan import planned
from alss_ray.sweep import Confirmation, Outcome, Sweep, replicated
from alss_ray.tune.cluster import Share, connected, share, threads
from alss_ray.tune.events import Events
from alss_ray.tune.keeping import StopWhenLost, kept
from alss_ray.tune.study import StudyTrials
from alss_ray.tune.trial import AULC, Work, reference, trial
from alss_ray.tune.warm import earlier_trials

BOOT = 1200.0  # seconds for machines that are started on demand to carry the oracle's workers
RETRIES = 3  # times a trial is started again after a fault before it is given up


def run_trials(sweep: Sweep, folder: Place) -> Outcome:
    """Run the trials that a sweep's folder still lacks, or the first of them where that is all that is asked for.

    Raises:
        UsageError: the cluster does not answer or cannot carry a trial, told before any trial starts.
        KeyboardInterrupt: Ctrl-C; what is done stays, and the sweep can be resumed.
        StoreError: the results can no longer be kept; the same.
        Waiting: trials wait for people's labels; the same.
    """
    # A failed trial is told by the display, in a line.
    for logger in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # A continued trial reports its rounds to the study again, under the same steps.
    warnings.filterwarnings("ignore", message="The reported value is ignored")
    earlier = earlier_trials(sweep)
    with connected(sweep.options):
        part = share(sweep.options)
        # Not before it is known that there is a cluster for it.
        results.claim(folder, sweep.asked(), sweep.options.resume)
        with contextlib.ExitStack() as services:
            return _Session(sweep, folder, part, services).run(earlier)


class _Listed:
    """Trials whose experiments are given."""

    algorithm = scheduler = None
    num_samples = 1

    def __init__(self, experiments: Sequence[Experiment], folder: Place) -> None:
        self.total = len(experiments)
        rows = []
        with contextlib.suppress(UsageError):  # there are no records yet
            rows = reading.read("rounds", [folder]).table.select(["experiment", "t"]).to_pylist()
        done = {(row["experiment"], row["t"]) for row in rows}
        self.experiments = [e for e in experiments if (e.identity, e.rounds) not in done]

    @property
    def left(self) -> int:
        return len(self.experiments)

    @property
    def labels(self) -> int:
        return sum(experiment.label_budget for experiment in self.experiments)

    def first(self) -> _Listed:
        """The first trial alone."""
        self.experiments = self.experiments[:1]
        self.total = len(self.experiments)
        return self

    @property
    def param_space(self) -> dict[str, Any]:
        listed = [flatten(experiment, identity_only=False) for experiment in self.experiments]
        return {"experiment": tune.grid_search(listed)}


_Trials = _Listed | StudyTrials


class _Session:
    """One connection's work on a sweep: its search or list, and what is confirmed at the end."""

    def __init__(self, sweep: Sweep, folder: Place, part: Share, services: contextlib.ExitStack) -> None:
        self.sweep, self.folder, self.part, self.services = sweep, folder, part, services
        self.options = sweep.options
        self.cache = GeneratorStore(Place(self.options.cache or store.default_folder()).absolute())
        # Where Tune keeps its own state; nobody reads it, so an object store is spared it.
        self.scratch = folder.local or services.enter_context(tempfile.TemporaryDirectory(prefix="alss-ray-"))

    def run(self, earlier: Sequence[FrozenTrial]) -> Outcome:
        """Everything that is left of the sweep; `earlier` trials count as evaluated by its search."""
        sweep, folder = self.sweep, self.folder
        if sweep.search is None:
            trials: _Trials = _Listed(sweep.experiments, folder)
        else:
            trials = StudyTrials(sweep, folder, earlier)
        if self.options.dry_run:
            return self._dry_run(trials)
        known = self._reference()
        failures = self._tuned(trials)
        confirmations: list[Confirmation] = []
        if isinstance(trials, StudyTrials):
            confirmations = trials.confirmations()
            arms = dict.fromkeys(e for c in confirmations for e in (c.experiment, c.baseline))
            again = [e for arm in arms for e in replicated(arm, sweep.reporting_seeds)]
            failures += self._tuned(_Listed(again, folder))
        if known is not None and (why := ray.get(known)):
            print(f"The whole-pool reference failed: {why}", file=sys.stderr)
        return Outcome(folder, failures, confirmations)

    def _reference(self) -> Any:
        """Start the whole-pool experiment, which takes a trial's share of the cluster; None where there is none."""
        known = self.sweep.reference
        if known is None:
            return None
        remote: Any = ray.remote(reference)  # its type stubs lack options
        share = {"num_cpus": self.part.cpus, "num_gpus": self.part.gpus, "max_retries": RETRIES}
        return remote.options(**share).remote(known, self._shared, self.folder, self._source, self.part.cpus)

    def _dry_run(self, trials: _Trials) -> Outcome:
        """Say what is left, and measure a first trial where there is none yet."""
        left, finished = trials.left, trials.total - trials.left
        plan = planned(self.sweep, finished, left, self.cache)
        print("\n".join(plan.lines()), flush=True)
        failures = 0
        if not finished:
            print("Measuring the first trial, which is kept ...", file=sys.stderr)
            failures = self._tuned(trials.first())
            plan = planned(self.sweep, 1, left - 1, self.cache)
        rows = reading.read("rounds", [self.folder]).table.to_pylist()
        if rows:
            taken = math.ceil(self._oracle_workers / threads(self.part.cpus))
            cores = max(1, self.part.cores - taken)
            slots = min(self.part.slots, plan.trials)
            print(
                f"Time for what is left, up to {slots} trials at once: "
                f"about {duration(plan.seconds(rows, slots, cores))}."
            )
            if plan.generators > plan.trained and not any(row["generator_trained"] for row in rows):
                print("The training of generators is not in it: the first trial's was in the cache.")
        print(f"Go on with the same command, without --dry-run and with --results {self.folder} --resume.")
        return Outcome(self.folder, failures)

    def _tuned(self, trials: _Trials) -> int:
        """Have Tune run what is left of the trials, under the live display; returns how many failed.

        Raises:
            Waiting: some cannot go on before people have labelled.
        """
        if not trials.left:
            return 0
        if isinstance(trials, StudyTrials):
            trials.algorithm.slots = self.part.slots
        sweep = self.sweep
        higher_is_better = sweep.base.task.higher_is_better
        display = SweepDisplay(
            f"{sweep.name}: {sweep.base.task.name}, results in {self.folder}",
            trials.total,
            trials.labels,
            higher_is_better,
            trials.total - trials.left,
        )
        one, stopper = len(sweep.modes) == 1, StopWhenLost()
        with display, kept(self.folder, stopper):
            grid = tune.Tuner(
                self._trainable,
                param_space=trials.param_space,
                tune_config=tune.TuneConfig(
                    metric=AULC if one else None,
                    mode=sweep.modes[0] if one else None,
                    search_alg=trials.algorithm,
                    scheduler=trials.scheduler,
                    num_samples=trials.num_samples,
                    # Left out, Tune asks for one machine at a time where a searcher proposes.
                    max_concurrent_trials=self.part.slots,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="tune",
                    storage_path=str(self.scratch),
                    stop=stopper,
                    verbose=0,
                    callbacks=[Events(display)],
                    failure_config=tune.FailureConfig(max_failures=RETRIES),
                ),
            ).fit()
        if display.waiting:
            raise self._waiting(display)
        ended = [grid[k] for k in range(len(grid))]
        done = sum(result.error is not None or (result.metrics or {}).get("done", False) for result in ended)
        if done < trials.left:
            raise KeyboardInterrupt  # Tune returns from Ctrl-C as if all were well
        return display.failures

    def _waiting(self, display: SweepDisplay) -> Waiting:
        """What trials wait for, taken together."""
        keys = frozenset().union(*display.waiting.values())
        oracle = materials(self.sweep.base.task).oracle
        assert isinstance(oracle, PeopleOracle)
        number = len(display.waiting)
        left = oracle.missing(keys)
        told = str(left) if left else "Their labels have come in the meantime."
        head = f"{number} {'trial waits' if number == 1 else 'trials wait'} for people."
        return Waiting(f"{head} {told}", keys, functools.partial(oracle.missing, keys))

    @functools.cached_property
    def _trainable(self) -> Any:
        """The trial function with what all trials share."""
        sweep = self.sweep
        work = Work(
            base=flatten(sweep.base, identity_only=False),
            seeds=sweep.seeds,
            rungs=sweep.search.rungs if sweep.search else (),
            timed=len(sweep.modes) > 1,
        )
        function = tune.with_parameters(
            trial,
            work=work,
            shared=self._shared,
            folder=self.folder,
            source=self._source,
        )
        return tune.with_resources(function, {"CPU": self.part.cpus, "GPU": self.part.gpus})

    @functools.cached_property
    def _source(self) -> DeskSource:
        return DeskSource.before(self.cache.folder)

    @functools.cached_property
    def _oracle_workers(self) -> int:
        """CPUs that are set apart for the oracle."""
        shared = materials(self.sweep.base.task)
        if shared.data.label_folder is None or getattr(shared.oracle, "keeps", False):
            return 0
        asked = self.options.oracle_workers
        return default_workers(ray.cluster_resources().get("CPU", 0.0)) if asked is None else asked

    @functools.cached_property
    def _shared(self) -> Materials:
        """The materials with the oracle as trials are to see it.

        That is a service which all trials share, its CPUs set apart before there is a trial, or a cache in each trial.
        """
        options, shared = self.options, materials(self.sweep.base.task)
        cpus, workers = ray.cluster_resources().get("CPU", 0.0), self._oracle_workers
        folder = shared.data.label_folder
        if folder is None or workers == 0:
            return shared.cached()
        on_demand = options.oracle_resource is not None  # machines of its own, perhaps not there yet
        if on_demand and (has := ray.cluster_resources().get(options.oracle_resource, 0.0)) < workers:
            print(
                f"The oracle's workers wait for {workers} {options.oracle_resource}, where the cluster has {has:g}, "
                f"for {duration(BOOT)} at most ...",
                file=sys.stderr,
            )
        if not on_demand and workers + options.cpus_per_trial > cpus:
            raise UsageError(
                f"{workers} oracle workers leave no room for a trial of {options.cpus_per_trial:g} CPUs on {cpus:g}; "
                "lower --oracle-workers."
            )
        service = self.services.enter_context(
            open_service(
                shared.oracle,
                workers,
                options.oracle_timeout,
                folder,
                options.oracle_resource,
                patience=BOOT if on_demand else PATIENCE,
            )
        )
        return dataclasses.replace(shared, oracle=service.oracle)
