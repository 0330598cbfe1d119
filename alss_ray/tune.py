"""Sweeps: a search space or a list of experiments becomes Ray Tune trials, each one whole experiment.

A trial keeps its state in the results folder under its experiment's identity, and the Optuna study keeps the
search's. An interrupted sweep is resumed from those two alone; Tune's own experiment state, which is pickled,
is never read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import socket
import warnings
from pathlib import Path
from typing import Any

import optuna
import ray
import torch
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from alss_ray import results
from alss_ray.catalogue import experiment_from
from alss_ray.config import ExperimentFailed, Scalar, UsageError, flatten
from alss_ray.display import SweepDisplay
from alss_ray.experiment import Run
from alss_ray.files import locked
from alss_ray.generators import store
from alss_ray.generators.desk import DeskSource, open_desk
from alss_ray.generators.store import GeneratorStore
from alss_ray.materials import Materials, materials
from alss_ray.oracles.service import default_workers, open_service
from alss_ray.rng import stream_seed
from alss_ray.space import Choice, Float, Int, Point
from alss_ray.sweep import OBJECTIVE, Sweep, SweepOptions

RETRIES = 3  # times a trial is started again after a fault before it is given up
CONNECT = 10.0  # seconds for a cluster to answer
FAILURE = "failure"
REPORTED = ("t", "n_labels", "val_metric", OBJECTIVE)


def run_trials(sweep: Sweep, folder: Path) -> int:
    """Run the trials that a sweep's folder still lacks, and return how many failed.

    Raises:
        UsageError: the cluster does not answer or cannot carry a trial, told before any trial starts.
        KeyboardInterrupt: Ctrl-C; what is done stays, and the sweep can be resumed.
    """
    # A failed trial is told by the display, in a line.
    for logger in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # A continued trial reports its rounds to the study again, under the same steps.
    warnings.filterwarnings("ignore", message="The reported value is ignored")
    started_here = _connect(sweep.options)
    try:
        return _run(sweep, folder)
    finally:
        if started_here:
            ray.shutdown()


def _connect(options: SweepOptions) -> bool:
    """Join the cluster that was named or start a local one; True if it was started here."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "ignore_reinit_error": True}
    address = options.address or os.environ.get("RAY_ADDRESS")
    started_here = address is None and not ray.is_initialized()
    if started_here:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # 'local' by name: without it Ray would look for a cluster that was on this machine before.
        ray.init(address="local", include_dashboard=False, **quiet)
    else:
        try:
            if address and ":" in address:  # Ray itself would try for many minutes
                host, _, port = address.removeprefix("ray://").rpartition(":")
                socket.create_connection((host, int(port)), CONNECT).close()
            ray.init(address=address, **quiet)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"No Ray cluster answers at {address!r} ({error}); start one (ray start --head), set "
                "RAY_AUTH_MODE=token where it asks for a token, or leave --address out."
            ) from error
    return started_here


def _run(sweep: Sweep, folder: Path) -> int:
    options = sweep.options
    has = ray.cluster_resources()
    gpus = options.gpus_per_trial if options.gpus_per_trial is not None else min(1.0, has.get("GPU", 0.0))
    if options.cpus_per_trial > has.get("CPU", 0) or gpus > has.get("GPU", 0.0):
        raise UsageError(
            f"A trial asks for {options.cpus_per_trial} CPUs and {gpus:g} GPUs, but the cluster has only "
            f"{has.get('CPU', 0):g} and {has.get('GPU', 0):g}; lower --cpus-per-trial or --gpus-per-trial."
        )
    # Not before it is known that there is a cluster for it.
    results.claim(folder, sweep.asked(), options.resume)
    search: _Search | _Listed = _Listed(sweep, folder) if sweep.space is None else _Search(sweep, folder)
    if not search.left:
        return 0
    shared = materials(sweep.base.task)
    with contextlib.ExitStack() as services:
        shared = _served(shared, options, services)
        generators = (options.cache or store.default_folder()).expanduser().absolute()
        trainable = tune.with_parameters(
            _trial,
            base=flatten(sweep.base, identity_only=False),
            shared=shared,
            folder=folder,
            source=DeskSource(open_desk(generators), GeneratorStore(generators)),
        )
        return _tuned(
            sweep,
            folder,
            search,
            tune.with_resources(trainable, {"CPU": options.cpus_per_trial, "GPU": gpus}),
        )


def _served(shared: Materials, options: SweepOptions, services: contextlib.ExitStack) -> Materials:
    """The materials with the oracle as trials are to see it.

    That is a service which all trials share, its CPUs set apart before there is a trial, or a cache in each trial.
    """
    cpus = ray.cluster_resources().get("CPU", 0.0)
    workers = options.oracle_workers if options.oracle_workers is not None else default_workers(cpus)
    folder = shared.data.label_folder
    if folder is None or workers == 0:
        return shared.cached()
    if workers + options.cpus_per_trial > cpus:
        raise UsageError(
            f"{workers} oracle workers leave no room for a trial of {options.cpus_per_trial} CPUs on {cpus:g}; "
            "lower --oracle-workers."
        )
    service = services.enter_context(open_service(shared.oracle, workers, options.oracle_timeout, folder))
    return dataclasses.replace(shared, oracle=service.oracle)


def _tuned(sweep: Sweep, folder: Path, search: _Search | _Listed, trainable: Any) -> int:
    """Have Tune run what is left of the trials, under the live display; returns how many failed."""
    higher_is_better = sweep.base.task.higher_is_better
    display = SweepDisplay(
        f"{sweep.name}: {sweep.base.task.name}, results in {folder}",
        search.total,
        search.labels,
        higher_is_better,
        search.total - search.left,
    )
    with display:
        grid = tune.Tuner(
            trainable,
            param_space=search.param_space,
            tune_config=tune.TuneConfig(
                metric=OBJECTIVE,
                mode="max" if higher_is_better else "min",
                search_alg=search.algorithm,
                num_samples=search.num_samples,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder),
                verbose=0,
                callbacks=[_Events(display)],
                failure_config=tune.FailureConfig(max_failures=RETRIES),
            ),
        ).fit()
    ended = [grid[k] for k in range(len(grid))]
    if (
        sum(result.error is not None or (result.metrics or {}).get("done", False) for result in ended)
        < search.left
    ):
        raise KeyboardInterrupt  # Tune returns from Ctrl-C as if all were well
    return display.failures


def _trial(
    config: dict[str, Any], base: dict[str, Scalar], shared: Materials, folder: Path, source: DeskSource
) -> None:
    """One trial: a whole experiment, continued if the folder holds its state. Runs in a Ray worker."""
    if not (folder / results.MANIFEST).exists():
        raise UsageError(
            f"This machine does not see {folder}; put --results on storage that all machines share."
        )
    torch.set_num_threads(int(tune.get_context().get_trial_resources().required_resources.get("CPU", 1)))
    experiment = experiment_from(config.get("experiment") or {**base, **config})
    try:
        # A search over a few values can propose a point twice at once: the second waits, then finds it done.
        with locked(folder / results.STATE / f"{experiment.identity}.lock"):
            run = Run(experiment, shared, folder, source)
            if run.state.t > experiment.rounds:
                tune.report(run.result)
            for row in run.rounds():
                tune.report({name: row[name] for name in REPORTED})
    except (UsageError, ExperimentFailed) as error:
        # It would fail again, so it is reported, not raised: Tune starts anew what raises.
        tune.report({"t": 0, "n_labels": 0, OBJECTIVE: math.nan, FAILURE: str(error)})


class _Listed:
    """The trials of a sweep whose experiments are given."""

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        self.total = self.left = len(sweep.experiments)
        self.labels = sum(experiment.label_budget for experiment in sweep.experiments)
        listed = [flatten(experiment, identity_only=False) for experiment in sweep.experiments]
        self.param_space = {"experiment": tune.grid_search(listed)}
        self.algorithm = None
        self.num_samples = 1


class _Search:
    """The trials of a search: an Optuna study in the results folder, taken up again where it was left."""

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        assert sweep.space is not None
        storage = optuna.storages.RDBStorage(f"sqlite:///{folder / results.STUDY}")
        higher_is_better = sweep.base.task.higher_is_better
        study = optuna.create_study(
            study_name=sweep.name,
            storage=storage,
            direction="maximize" if higher_is_better else "minimize",
            load_if_exists=True,
        )
        before = study.get_trials(deepcopy=False)
        for trial in before:
            if trial.state == optuna.trial.TrialState.RUNNING:
                # Its process is gone. Waiting trials are asked for first, with the parameters they have.
                storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.WAITING)
        finished = sum(trial.state.is_finished() for trial in before)
        self.total, self.left = sweep.trials, max(0, sweep.trials - finished)
        self.labels = self.left * sweep.base.label_budget
        # A resumed search must not draw again what it drew at its start.
        seed = stream_seed(sweep.base.seed, "search", len(before)) % 2**32
        self.algorithm = _StudySearch(
            {name: _distribution(part) for name, part in sweep.space.items()},
            metric=OBJECTIVE,
            mode="max" if higher_is_better else "min",
            study_name=sweep.name,
            storage=storage,
            sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        )
        self.param_space: dict[str, Any] = {}
        self.num_samples = self.left


class _StudySearch(OptunaSearch):
    """OptunaSearch that tells the study of an experiment's own failure as such, not as a value."""

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if FAILURE not in result:
            super().on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        failed = error or (result is not None and FAILURE in result)
        super().on_trial_complete(trial_id, None if failed else result, failed)


def _distribution(part: Float | Int | Choice) -> optuna.distributions.BaseDistribution:
    if isinstance(part, Choice):
        return optuna.distributions.CategoricalDistribution(part.values)
    if isinstance(part, Int):
        return optuna.distributions.IntDistribution(part.low, part.high, log=part.log)
    return optuna.distributions.FloatDistribution(part.low, part.high, log=part.log)


class _Events(tune.Callback):
    """Tells the display what Tune hears of its trials."""

    def __init__(self, display: SweepDisplay) -> None:
        self.display = display

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into its state, which is never read here; a display cannot be

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.display.started(trial.trial_id, _told(trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if FAILURE in result:
            self.display.failed(trial.trial_id, result[FAILURE])
        else:
            self.display.reported(trial.trial_id, result["t"], result["n_labels"], result[OBJECTIVE])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.display.completed(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.display.failed(trial.trial_id, str(trial.get_error()).strip().splitlines()[-1])


def _told(config: Point) -> Point:
    """What is worth showing of a trial's configuration."""
    listed: Any = config.get("experiment")
    if listed is None:
        return config
    return {name: listed[name] for name in ("strategy", "direction", "seed") if name in listed}
