"""What the searching scripts in sweeps/ have in common: their command line, and what they show at the end."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from alss_ray import cli, specs, summary
from alss_ray.catalogue import experiment_from
from alss_ray.config import Experiment, Scalar, UsageError, flatten
from alss_ray.places import Place
from alss_ray.space import Choice, Space, clipped
from alss_ray.sweep import HALVING, Outcome, Search, Sweep, SweepOptions, run_and_show

PAPER = {"alpha": 1.0, "latent_dim": 3}
"""The paper's step size and latent dimension; its round size on a task is the task's own default."""

Repeated = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
"""An option that may stand on the command line many times, with one value each."""


@dataclass(frozen=True)
class SearchOptions(SweepOptions):
    """Where a search's results go, what it searches for how long, and what it runs on."""

    trials: int = 20
    """Number of trials, those of an interrupted sweep that is resumed included."""
    fix: Repeated = ()
    """NAME=VALUE: fix any field of the experiment, as --NAME VALUE does; may be given many times."""
    search: Repeated = ()
    """NAME=RANGE: search any field along, or over another range: int(LOW,HIGH), float(LOW,HIGH), either with ,log
    behind HIGH, or choice(A,B,...); may be given many times."""
    try_first: Repeated = ()
    """NAME=VALUE,...: a point to evaluate first, behind the paper's setting (α = 1, n = 3, the task's J), which
    stands for what is not named; may be given many times."""
    replicates: int = 1
    """Paired seeds of every trial, from --seed upwards; the search sees their mean."""
    objectives: Literal["aulc", "aulc,oracle_seconds"] = "aulc"
    """What is optimised: the AULC, or its Pareto front with the oracle's seconds. These are what an experiment's label
    phases took: with waiting, without the validation set, and next to nothing for labels that a cache has."""
    early_stopping: bool = False
    """Stop trials whose AULC is not among the best third at a number of labels (asynchronous successive halving)."""
    grace_labels: int | None = None
    """Labels that every trial may buy before it can be stopped; a ninth of the budget, and a whole round at
    least, unless given."""
    warm_start: Place | None = None
    """Results folder of an earlier search on the same data and budget: its trials count as evaluated already."""
    confirm: int = 0
    """Run the best so many configurations again on fresh seeds, beside random selection with the same settings."""
    confirm_seeds: int = 5
    """Fresh seeds of --confirm."""


def search(
    description: str, space: Callable[[Experiment], Space], each: str | None = None, task: str = "digits"
) -> int:
    """The whole of a search script: read its command line, search, show the best; returns the exit status.

    Args:
        space: the search space that suits an experiment. A parameter that stands on the command line is fixed
            at that value instead.
        each: a choice of the space whose values get the same number of trials.
        task: the task unless the command line names one.
    """
    name = Path(sys.argv[0]).stem

    def work() -> int:
        parsed = cli.parse(
            SearchOptions(), description, sys.argv[1:], f"python sweeps/{name}.py",
            components=cli.Components(task=task), purpose="search",
        )  # fmt: skip
        base, searched = _around(parsed, space)
        options = parsed.options
        sweep = Sweep(name, options, base, _search(options, base, searched, each))

        def show(outcome: Outcome) -> None:
            summary.show_best(sweep, outcome.folder)
            summary.show_confirmed(sweep, outcome)

        return run_and_show(sweep, show)

    return cli.guarded(work)


def _around(
    parsed: cli.Parsed[SearchOptions], space: Callable[[Experiment], Space]
) -> tuple[Experiment, Space]:
    """The experiment of every trial and what is searched around it, as the command line changes them."""
    base, options = parsed.experiment, parsed.options
    fixed, own = specs.fixed(options.fix, base), specs.searched(options.search, base)
    for name in sorted({*fixed, *own} & parsed.given | fixed.keys() & own.keys()):
        raise UsageError(f"{name} stands on the command line twice; give it once, fixed or searched.")
    base = experiment_from({**flatten(base, identity_only=False), **fixed})
    searched = {key: part for key, part in space(base).items() if key not in parsed.given | fixed.keys()}
    searched |= own
    if unknown := searched.keys() - flatten(base).keys():
        raise UsageError(
            f"The strategy {flatten(base)['strategy']} has no {min(unknown)} to search; choose another --strategy."
        )
    if not searched:
        raise UsageError("Every parameter of the search space is fixed on the command line; leave one out.")
    return base, searched


def _search(options: SearchOptions, base: Experiment, space: Space, each: str | None) -> Search:
    usual: dict[str, Scalar] = {**flatten(base), **PAPER}
    paper = {name: clipped(part, usual[name]) for name, part in space.items()}
    first = [paper]
    for text in options.try_first:
        point = {**paper, **specs.point(text, space, base)}
        if point not in first:
            first.append(point)
    return Search(
        space=space,
        trials=options.trials,
        replicates=options.replicates,
        objectives=tuple(options.objectives.split(",")),
        rungs=_rungs(options, base) if options.early_stopping else (),
        first=first,
        each=each if each is not None and isinstance(space.get(each), Choice) else None,
        warm_start=options.warm_start and options.warm_start.absolute(),
        confirm=options.confirm,
        confirm_seeds=options.confirm_seeds,
    )


def _rungs(options: SearchOptions, base: Experiment) -> tuple[int, ...]:
    """Numbers of labels below the budget, each so many times the one before."""
    budget = base.label_budget
    usual = max(base.round_size, math.ceil(budget / HALVING**2))
    grace = options.grace_labels if options.grace_labels is not None else usual
    if not 1 <= grace < budget:
        raise UsageError(f"--grace-labels is {grace}; give a number from 1 to below the budget of {budget}.")
    rungs = []
    while grace < budget:
        rungs.append(grace)
        grace *= HALVING
    return tuple(rungs)
