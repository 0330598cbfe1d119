"""What a sweep's records say at its end: the best trials, a Pareto front, and paired differences."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow.compute as pc

from alss_ray import reading
from alss_ray.config import Experiment
from alss_ray.display import print_table, shown
from alss_ray.places import Place
from alss_ray.sweep import Outcome, Sweep, replicated

BEST = 5  # trials shown at the end
CONFIDENCE = 0.95

Row = dict[str, Any]


def final_rows(folder: Place) -> dict[str, Row]:
    """The last row of every finished experiment of a results folder by identity, with its `oracle_seconds`."""
    table = reading.read("rounds", [folder]).table
    if not len(table):
        return {}  # nor has it the columns of any configuration
    seconds: dict[str, float] = defaultdict(float)
    for identity, value in zip(
        table["experiment"].to_pylist(), table["label_seconds"].to_pylist(), strict=True
    ):
        seconds[identity] += value
    last = table.filter(pc.equal(table["n_labels"], table["label_budget"])).to_pylist()
    return {row["experiment"]: {**row, "oracle_seconds": seconds[row["experiment"]]} for row in last}


def show_best(sweep: Sweep, folder: Place) -> None:
    """Print the best finished trials of a search: those of the front where it has several objectives."""
    assert sweep.search is not None
    ended, known = final_rows(folder), sweep.reference
    reference = ended.pop(known.identity, None) if known else None
    rows = [row for row in ended.values() if row["seed"] in sweep.seeds]
    if not rows:
        print("No trial is finished.")
        return
    trials = _averaged(rows, len(sweep.seeds))
    sign = -1 if sweep.base.task.higher_is_better else 1
    trials.sort(key=lambda row: sign * row["val_aulc"])
    searched = sorted(sweep.search.space)
    each = sweep.search.each
    if len(sweep.modes) > 1:
        best, title = front(trials, sign), f"The Pareto front of {len(trials)} finished trials"
    elif each is not None:
        first = {row[each]: row for row in reversed(trials)}
        best, title = (
            [first[value] for value in sorted(first)],
            f"The best of {len(trials)} trials for each {each}",
        )
    else:
        best, title = trials[:BEST], f"The best of {len(trials)} finished trials"
    timed = "oracle_seconds" in sweep.search.objectives
    columns = {
        **{name: name for name in searched},
        "AULC": "val_aulc",
        **({"oracle seconds": "oracle_seconds"} if timed else {}),
        "final validation": "val_metric",
        "final test": "test_metric",
        **({"experiment": "experiment"} if len(sweep.seeds) == 1 else {"configuration": "configuration"}),
    }
    table = reading.read("rounds", [folder]).table
    trained = pc.sum(pc.equal(table["t"], 1).filter(table["generator_trained"])).as_py() or 0
    keys_used = len(pc.unique(table["generator_key"].drop_null()))
    over = "" if len(sweep.seeds) == 1 else f" Means over {len(sweep.seeds)} paired seeds."
    print_table(
        title,
        list(columns),
        [[shown(row[key]) for key in columns.values()] for row in best],
        f"AULC: mean {rows[0]['metric']} of the validation curve from 0 labels to the budget.{over} "
        f"Generators: {keys_used} used, {trained} trained in this sweep.{_levels(reference)}",
    )


def _levels(reference: Row | None) -> str:
    """What the network learns from the whole pool, and what is known without learning."""
    if reference is None:
        return ""
    return (
        f" Test with all {reference['label_budget']} labels: {shown(reference['test_metric'])}; "
        f"without learning: {shown(reference['test_guess'])}."
    )


def _averaged(rows: Iterable[Row], seeds: int) -> list[Row]:
    """A row for each configuration that has all its seeds, with the means of what is measured."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["configuration"]].append(row)
    measured = ("val_aulc", "oracle_seconds", "val_metric", "test_metric")
    return [
        {**group[0], **{name: statistics.fmean(row[name] for row in group) for name in measured}}
        for group in groups.values()
        if len(group) == seeds
    ]


def front(trials: Sequence[Row], sign: int) -> list[Row]:
    """The trials, sorted by AULC, that no better one undercuts in the oracle's seconds."""
    found: list[Row] = []
    for row in sorted(trials, key=lambda row: (sign * row["val_aulc"], row["oracle_seconds"])):
        if not found or row["oracle_seconds"] < found[-1]["oracle_seconds"]:
            found.append(row)
    return found


def show_confirmed(sweep: Sweep, outcome: Outcome) -> None:
    """Print what the search saw of its best beside what fresh seeds say, and the difference to the baseline."""
    if not outcome.confirmations:
        return
    rows = final_rows(outcome.folder)
    assert sweep.search is not None
    searched = sorted(sweep.search.space)
    body = []
    for found in outcome.confirmations:
        pairs = paired(rows, found.experiment, found.baseline, sweep.reporting_seeds)
        body.append(
            [
                *(shown(found.point[name]) for name in searched),
                shown(found.tuned),
                spread([one["val_aulc"] for one, _ in pairs]),
                spread([other["val_aulc"] for _, other in pairs]),
                difference([one["val_aulc"] - other["val_aulc"] for one, other in pairs]),
                difference([one["test_aulc"] - other["test_aulc"] for one, other in pairs]),
            ]
        )
    seeds = sweep.reporting_seeds
    print_table(
        f"The best confirmed on seeds {seeds[0]} to {seeds[-1]}, beside random selection with the same settings",
        [*searched, "AULC tuned", "AULC confirmed", "AULC random", "difference", "difference, test AULC"],
        body,
        f"Mean ± standard deviation over {len(seeds)} seeds; paired differences with their {CONFIDENCE:.0%} t "
        "interval. What the search saw of its best is the luckiest of many: the confirmed values are the fair ones.",
    )


def paired(
    rows: dict[str, Row], one: Experiment, other: Experiment, seeds: Sequence[int]
) -> list[tuple[Row, Row]]:
    """The final rows of two arms, for the seeds that both have finished."""
    ids = zip(replicated(one, seeds), replicated(other, seeds), strict=True)
    found = [(rows.get(a.identity), rows.get(b.identity)) for a, b in ids]
    return [(a, b) for a, b in found if a is not None and b is not None]


def spread(values: Sequence[float], digits: int = 4) -> str:
    """`0.8123 ± 0.0042`: mean and standard deviation."""
    if not values:
        return "-"
    sd = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{sd}"


def difference(values: Sequence[float], digits: int = 4) -> str:
    """`+0.0123 [+0.0031, +0.0215]`: mean of paired differences with its t interval."""
    if not values:
        return "-"
    from scipy import stats  # takes a second to import, and most sweeps show no difference

    mean = statistics.fmean(values)
    error = stats.sem(values) if len(values) > 1 else 0.0
    if not error:
        return f"{mean:+.{digits}f}"
    low, high = stats.t.interval(CONFIDENCE, len(values) - 1, mean, error)
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
