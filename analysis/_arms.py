"""The arms of a comparison as the records hold them, and which of their runs may be paired.

Imports neither torch nor Ray.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from _lines import distinguishing, fitting, in_rounds, label, sorting_key
from _shared import configuration_columns, nearest

from alss_ray.config import UsageError
from alss_ray.metrics import aulc

MOST_ARMS = 24
FACTS = {
    "data": ("task", "data_hash"),
    "network": ("parameters",),
    "hardware": ("device", "cpu"),
    "validation": ("n_val_labels",),
}
"""What must be the same in a pair, by the word that allows it to differ; `validation` where its metric counts."""


def needed(metric: str) -> set[str]:
    """The columns of rounds that `find` takes, beside the fields of the configurations."""
    facts = {name for columns in FACTS.values() for name in columns}
    return {"experiment", "configuration", "t", "n_labels", metric, _guess(metric), *facts}


@dataclass(frozen=True)
class Run:
    """One experiment's curve."""

    experiment: str
    configuration: str
    t: np.ndarray
    """Rounds."""
    labels: np.ndarray
    """Training labels bought by the end of each, increasing."""
    values: np.ndarray
    """The metric there, in its own unit."""
    guess: float
    """The metric at 0 labels: of the best guess that looks at no image."""
    budget: int
    """The label budget."""
    facts: Mapping[str, frozenset[Any]]
    """Column -> its values in this run, for the columns of FACTS."""

    def at(self, labels: np.ndarray) -> np.ndarray:
        """The metric at these numbers of labels, interpolated linearly."""
        return np.interp(labels, self.labels, self.values)

    areas: dict[int, float] = field(default_factory=dict, compare=False, repr=False)
    """AULCs that were asked for before, by budget."""

    def aulc(self, budget: int) -> float:
        """Area under the curve from 0 labels to a budget that the run reaches, divided by it (metrics.aulc)."""
        if budget not in self.areas:
            self.areas[budget] = aulc(self.guess, self.labels.tolist(), self.values.tolist(), until=budget)
        return self.areas[budget]


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: the runs of a configuration, or of a group of configurations, by seed."""

    name: str
    configurations: tuple[str, ...]
    runs: Mapping[int, Sequence[Run]]
    """Seed -> the runs with it, one a configuration; where there are several the seed counts as their mean."""

    def all_runs(self, seeds: Collection[int] | None = None) -> list[Run]:
        return [run for seed, runs in self.runs.items() if seeds is None or seed in seeds for run in runs]

    def curves(self, seeds: Sequence[int], labels: np.ndarray) -> np.ndarray:
        """The metric of each seed at these numbers of labels, seeds x labels."""
        return np.array([np.mean([run.at(labels) for run in self.runs[seed]], axis=0) for seed in seeds])

    def aulcs(self, seeds: Sequence[int], budget: int) -> np.ndarray:
        """The AULC of each seed up to a budget."""
        of_seeds = [self.runs[seed] for seed in seeds]
        return np.array([sum(run.aulc(budget) for run in runs) / len(runs) for runs in of_seeds])


def find(table: pa.Table, metric: str, by: Sequence[str] | None = None) -> tuple[list[Arm], list[str]]:
    """The arms in the records of rounds, sorted by name, and a sentence for each run that had to be left out.

    Runs that bought all their labels in one round, beside others that did not, are no arm. An experiment that
    lies in two folders is one run.

    Args:
        metric: 'test_metric' or 'val_metric'.
        by: columns of the configuration whose values make an arm; without them each configuration is one.

    Raises:
        UsageError: more arms than can be compared one by one, or a column that does not exist.
    """
    table = in_rounds(table)
    configurations = len(pc.unique(table["configuration"]))
    if by is None and configurations > MOST_ARMS:
        raise UsageError(
            f"The records hold {configurations} configurations, too many to compare one by one; "
            "give --by columns that make fewer arms, strategy say."
        )
    by = distinguishing(table) if by is None else by
    if unknown := [name for name in by if name not in (known := {"sweep", *configuration_columns(table)})]:
        raise UsageError(f"--by: there is no column {unknown[0]} to group by; {nearest(unknown[0], known)}.")
    groups: dict[tuple[Any, ...], dict[int, dict[str, Run]]] = defaultdict(lambda: defaultdict(dict))
    notes = []
    for key, seed, run in _experiments(table, metric, by):
        if np.isfinite(run.values).all() and np.isfinite(run.guess):
            groups[key][seed].setdefault(run.experiment, run)
        else:
            name = label(dict(zip(by, key, strict=True)))
            notes.append(
                f"{name}, seed {seed}: experiment {run.experiment} has a {metric} or a guess that is "
                "missing or not finite; it was left out."
            )
    if len(groups) > MOST_ARMS:
        raise UsageError(
            f"--by {','.join(by)} makes {len(groups)} arms, more than the {MOST_ARMS} that are compared at once; "
            "give columns with fewer values."
        )
    arms = []
    for key in sorted(groups, key=sorting_key):
        runs = {seed: list(found.values()) for seed, found in sorted(groups[key].items())}
        hashes = tuple(sorted({run.configuration for found in runs.values() for run in found}))
        arms.append(Arm(label(dict(zip(by, key, strict=True))), hashes, runs))
    return arms, notes


def _experiments(
    table: pa.Table, metric: str, by: Sequence[str]
) -> Iterator[tuple[tuple[Any, ...], int, Run]]:
    """Every experiment of a sweep: its values of `by`, its seed, and the run."""
    facts = [name for columns in FACTS.values() for name in columns]
    single = list(dict.fromkeys(["configuration", "seed", "label_budget", _guess(metric), *by]))
    lists = ("t", "n_labels", metric)
    wanted = table.select(sorted({"sweep", "experiment", *single, *lists, *facts}))
    grouped = wanted.group_by(["sweep", "experiment"], use_threads=False)
    found = grouped.aggregate(
        [(name, "one") for name in single]
        + [(name, "list") for name in lists]
        + [(name, "distinct") for name in facts]
    )
    # Column by column: a dictionary for each of 100,000 experiments would take longer than all the statistics.
    one = {name: found[f"{name}_one"].to_pylist() for name in single}
    sets = zip(*(_tuples(found[f"{name}_distinct"]) for name in facts), strict=True)
    shared: dict[tuple[Any, ...], dict[str, frozenset[Any]]] = {}
    keys = zip(*(one[name] for name in by), strict=True) if by else itertools.repeat(())
    rows = zip(
        found["experiment"].to_pylist(), one["configuration"], one["seed"], one["label_budget"],
        one[_guess(metric)], sets, keys, *(_split(found[f"{name}_list"]) for name in lists), strict=False,
    )  # fmt: skip
    for experiment, configuration, seed, budget, guess, values_of, key, t, labels, values in rows:
        if len(t) > 1 and (t[1:] < t[:-1]).any():
            order = np.argsort(t)
            t, labels, values = t[order], labels[order], values[order]
        if values_of not in shared:
            shared[values_of] = dict(zip(facts, map(frozenset, values_of), strict=True))
        guess = np.nan if guess is None else guess
        yield (
            key,
            seed,
            Run(experiment, configuration, t, labels.astype(float), values, guess, budget, shared[values_of]),
        )


def _tuples(column: pa.ChunkedArray) -> Iterable[tuple[Any, ...]]:
    """The lists of a column; quick where each holds one value."""
    lists = column.combine_chunks()
    if pc.all(pc.equal(pc.list_value_length(lists), 1)).as_py():
        return zip(lists.flatten().to_pylist(), strict=True)
    return map(tuple, lists.to_pylist())


def _split(column: pa.ChunkedArray) -> list[np.ndarray]:
    """The lists of a column as arrays, nulls of floats as NaN."""
    lists = column.combine_chunks()
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    return np.split(flat, np.cumsum(pc.list_value_length(lists).to_numpy())[:-1])


def _guess(metric: str) -> str:
    return "val_guess" if metric == "val_metric" else "test_guess"


def named(arms: Sequence[Arm], name: str | None) -> Arm:
    """The arm of a name, a part of a name ('snn, direction=none') or a configuration's hash; random unless named.

    Raises:
        UsageError: there is none, or several.
    """
    names = [arm.name for arm in arms]
    hashed = [arm for arm in arms if arm.configurations == (name,)]
    found = hashed or [arms[k] for k in fitting(names, name or "random")]
    if len(found) == 1:
        return found[0]
    if found:
        several = "; ".join(f"'{arm.name}'" for arm in found)
        raise UsageError(f"Several arms could be the baseline; give --baseline one of {several}.")
    quoted = "; ".join(f"'{n}'" for n in names)
    if name is None:
        raise UsageError(
            f"No arm has the strategy random to be the baseline; give --baseline one of {quoted}."
        )
    raise UsageError(f"--baseline: there is no arm {name!r}; the arms are {quoted}.")


@dataclass(frozen=True)
class Pairing:
    """The pairs that two arms make."""

    seeds: tuple[int, ...]
    """Seeds with which all runs of both reach the budget."""
    budget: int
    """Labels up to which they are compared."""
    notes: tuple[str, ...]
    """A sentence for each thing that is missing or was cut off."""


def pairing(one: Arm, other: Arm) -> Pairing:
    """Pair two arms by seed, up to the smaller label budget.

    Where no pair has reached it, they are paired up to the labels that all of them have reached.
    """
    notes = []
    common = sorted(set(one.runs) & set(other.runs))
    for arm, rest in ((one, other), (other, one)):
        if missing := sorted(set(arm.runs) - set(rest.runs)):
            notes.append(f"{rest.name} has no run with seed {_listed(missing)} of {arm.name}.")
    if not common:
        return Pairing((), 0, tuple(notes))
    runs = one.all_runs(common) + other.all_runs(common)
    budgets = {run.budget for run in runs}
    budget = min(budgets)
    if len(budgets) > 1:
        notes.append(
            f"{one.name} and {other.name} have unequal budgets; they are compared up to {budget} labels."
        )
    unfinished = {
        seed: min(run.labels[-1] for run in (*one.runs[seed], *other.runs[seed])) for seed in common
    }
    unfinished = {seed: labels for seed, labels in unfinished.items() if labels < budget}
    if len(unfinished) == len(common):
        budget = int(min(unfinished.values()))
        notes.append(
            f"No pair of {one.name} and {other.name} has finished; they are compared up to {budget} labels."
        )
        return Pairing(tuple(common), budget, tuple(notes))
    for seed, labels in unfinished.items():
        notes.append(
            f"{one.name} or {other.name}, seed {seed}, has {labels:.0f} of {budget} labels; left out."
        )
    return Pairing(tuple(seed for seed in common if seed not in unfinished), budget, tuple(notes))


def differing(one: Arm, other: Arm, seeds: Sequence[int], kinds: Collection[str]) -> dict[str, str]:
    """Which of the kinds of FACTS differ within pairs, and a phrase that says how."""
    found = {}
    for kind in kinds:
        phrases = []
        for name in FACTS[kind]:
            for seed in seeds:
                ours, theirs = (
                    frozenset().union(*(run.facts[name] for run in arm.runs[seed])) for arm in (one, other)
                )
                if ours != theirs:
                    phrases.append(f"{name} {_listed(ours)} against {_listed(theirs)} with seed {seed}")
                    break
        if phrases:
            found[kind] = ", ".join(phrases)
    return found


def _listed(values: Collection[Any]) -> str:
    return (
        ", ".join(sorted(map(str, values))) if not isinstance(values, list) else ", ".join(map(str, values))
    )
