"""The arms of a comparison as the records hold them, and which of their runs may be paired.

Imports neither torch nor Ray.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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

    def aulc(self, budget: int) -> float:
        """Area under the curve from 0 labels to a budget that the run reaches, divided by it (metrics.aulc)."""
        return aulc(self.guess, self.labels.tolist(), self.values.tolist(), until=budget)


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
        return np.array([np.mean([run.aulc(budget) for run in self.runs[seed]]) for seed in seeds])


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
    for row in _experiments(table, metric, by):
        key = tuple(row[f"{name}_one"] for name in by)
        run = _run(row, metric)
        if np.isfinite([*run.values, run.guess]).all():
            groups[key][row["seed_one"]].setdefault(run.experiment, run)
        else:
            name = label(dict(zip(by, key, strict=True)))
            notes.append(
                f"{name}, seed {row['seed_one']}: experiment {run.experiment} has a {metric} or a guess that is "
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


def _experiments(table: pa.Table, metric: str, by: Sequence[str]) -> list[dict[str, Any]]:
    """One row an experiment of a sweep: lists of its rounds, and single values of what is the same in all."""
    facts = {name for columns in FACTS.values() for name in columns}
    single = dict.fromkeys(["configuration", "seed", "label_budget", _guess(metric), *by])
    lists = ("t", "n_labels", metric)
    wanted = table.select(sorted({"sweep", "experiment", *single, *lists, *facts}))
    grouped = wanted.group_by(["sweep", "experiment"], use_threads=False)
    return grouped.aggregate(
        [(name, "one") for name in single]
        + [(name, "list") for name in lists]
        + [(name, "distinct") for name in facts]
    ).to_pylist()


def _run(row: Mapping[str, Any], metric: str) -> Run:
    order = np.argsort(row["t_list"])
    labels, values = (np.array(row[f"{name}_list"], float)[order] for name in ("n_labels", metric))
    facts = {name: frozenset(row[f"{name}_distinct"]) for columns in FACTS.values() for name in columns}
    guess = row[f"{_guess(metric)}_one"]
    return Run(
        row["experiment"], row["configuration_one"], np.array(row["t_list"])[order], labels, values,
        np.nan if guess is None else guess, row["label_budget_one"], facts,
    )  # fmt: skip


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
