"""One trial: a whole experiment, or the same on several paired seeds, round by round side by side."""

from __future__ import annotations

import contextlib
import functools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from ray import tune

from alss_ray import reading, results
from alss_ray.catalogue import experiment_from
from alss_ray.config import Experiment, ExperimentFailed, Scalar, UsageError, Waiting
from alss_ray.experiment import Run
from alss_ray.files import StoreError, locked
from alss_ray.generators.desk import DeskSource
from alss_ray.materials import Materials
from alss_ray.metrics import aulc
from alss_ray.places import Place
from alss_ray.sweep import replicated
from alss_ray.tune.cluster import threads
from alss_ray.tune.keeping import LOST

AULC = "aulc"
FAILURE = "failure"
FINISHED = "finished"
WAITING = "waiting"  # in a trial's report: the keys of the images for whose labels it waits
STEPS = "steps"


@dataclass(frozen=True)
class Work:
    """What all trials of a sweep have in common."""

    base: dict[str, Scalar]
    """The experiment where a trial's configuration says nothing."""
    seeds: Sequence[int]
    rungs: Sequence[int]
    """Numbers of labels at which trials are compared."""
    timed: bool
    """Whether the oracle's seconds are an objective."""


def trial(config: dict[str, Any], work: Work, shared: Materials, folder: Place, source: DeskSource) -> None:
    """The trial function that Tune calls in a Ray worker: continued where the folder holds its state.

    It reports after every round, as means over the seeds: `aulc`, `oracle_seconds`, `rounds` and `labels` bought
    (sums over the seeds), whether it is `finished`, and `steps`: (labels, AULC up to there) for this round, or
    for all rungs passed. A failure of the experiment's own is reported, not raised: Tune starts anew what raises.
    So is what could not be kept, which ends the sweep, and what people have yet to label, which ends the trial until
    the sweep is resumed.
    """
    cpus = tune.get_context().get_trial_resources().required_resources.get("CPU", 1)
    torch.set_num_threads(threads(cpus))
    listed = config.get("experiment")
    experiment = experiment_from(listed or {**work.base, **config})
    experiments = [experiment] if listed else replicated(experiment, work.seeds)
    failed = {
        AULC: math.nan,
        "oracle_seconds": math.nan,
        "rounds": 0,
        "labels": 0,
        STEPS: [],
        FINISHED: False,
    }
    try:
        if not (folder / results.MANIFEST).exists():
            raise UsageError(
                f"This machine does not see {folder}; put --results on storage that all machines share."
            )
        with contextlib.ExitStack() as turns:
            # A search over a few values can propose a point twice at once: the second waits, then finds it done.
            caller = tune.get_context().get_trial_id()
            for each in experiments:
                turns.enter_context(_turn(each, folder, source, caller))
            begin = [
                functools.partial(_Replicate.of, each, shared, folder, source, work) for each in experiments
            ]
            _advance(_all(begin), work)
    except Waiting as waiting:
        tune.report({**failed, WAITING: sorted(waiting.keys)})
    except StoreError as error:
        tune.report({**failed, LOST: str(error)})
    except (UsageError, ExperimentFailed) as error:
        tune.report({**failed, FAILURE: str(error)})


def reference(
    experiment: Experiment, shared: Materials, folder: Place, source: DeskSource, cpus: float
) -> str | None:
    """A whole experiment beside the trials, continued where the folder holds its state; why it failed, if it did."""
    torch.set_num_threads(threads(cpus))
    try:
        with _turn(experiment, folder, source, "reference"):
            for _ in Run(experiment, shared, folder, source).rounds():
                pass
    except (UsageError, ExperimentFailed) as error:
        return str(error)
    return None


def _turn(
    experiment: Experiment, folder: Place, source: DeskSource, caller: str
) -> contextlib.AbstractContextManager[None]:
    """Wait until nobody else works on the experiment in this folder, and keep others waiting."""
    if (state := (folder / results.STATE).local) is not None:
        return locked(state / f"{experiment.identity}.lock")
    return source.turn(experiment.identity, caller)


Result = TypeVar("Result")


def _all(work: Sequence[Callable[[], Result]]) -> list[Result]:
    """Do all of it, also where some has to wait: people are asked at once for what all seeds want of them.

    Raises:
        Waiting: for everything that is missing.
    """
    done: list[Result] = []
    waits: list[Waiting] = []
    for part in work:
        try:
            done.append(part())
        except Waiting as waiting:
            waits.append(waiting)
    if waits:
        raise Waiting(str(waits[-1]), frozenset().union(*(each.keys for each in waits)), waits[-1].look)
    return done


class _Replicate:
    """One seed's experiment, a round at a time."""

    @classmethod
    def of(
        cls, experiment: Experiment, shared: Materials, folder: Place, source: DeskSource, work: Work
    ) -> _Replicate:
        """The experiment as the folder holds it, or begun."""
        return cls(Run(experiment, shared, folder, source), work)

    def __init__(self, run: Run, work: Work) -> None:
        self.run, self.done = run, run.state.t - 1
        self.rows = run.rounds()
        self.oracle_seconds = _label_seconds(run) if work.timed else 0.0

    def reach(self, t: int) -> None:
        """Have round t done."""
        if self.done >= t:
            return
        self.oracle_seconds += next(self.rows)["label_seconds"]
        self.done = t
        if t == self.run.experiment.rounds:
            next(self.rows, None)  # lets the experiment save that it is over

    def labels(self, t: int) -> int:
        """Training labels after round t."""
        return self.run.state.history[t - 1][0]

    def aulc(self, t: int, until: float | None = None) -> float:
        """The objective after round t, or up to a number of labels that it had passed by then."""
        labels, values, _ = zip(*self.run.state.history[:t], strict=True)
        return aulc(self.run.guess[0], labels, values, until)


def _advance(replicates: Sequence[_Replicate], work: Work) -> None:
    """Take all seeds through their rounds side by side, and report each round that was not reported before."""
    rounds = replicates[0].run.experiment.rounds
    first = min(rounds, min(each.done for each in replicates) + 1)
    for t in range(first, rounds + 1):
        _all([functools.partial(each.reach, t) for each in replicates])
        labels = [each.labels(t) for each in replicates]
        mean = statistics.fmean(each.aulc(t) for each in replicates)
        passed = [rung for rung in work.rungs if rung <= min(labels)]
        at_rungs = [[r, statistics.fmean(each.aulc(t, r) for each in replicates)] for r in passed]
        tune.report(
            {
                AULC: mean,
                "oracle_seconds": statistics.fmean(each.oracle_seconds for each in replicates),
                "rounds": t * len(replicates),
                "labels": sum(labels),
                STEPS: at_rungs if work.rungs else [[min(labels), mean]],
                FINISHED: t == rounds,
            }
        )


def _label_seconds(run: Run) -> float:
    """What the rounds that are recorded already spent in their label phases."""
    if run.state.t == 1:
        return 0.0
    rows = reading.read("rounds", [run.folder]).table.to_pylist()
    return sum(
        row["label_seconds"]
        for row in rows
        if row["experiment"] == run.experiment.identity and row["t"] < run.state.t
    )
