"""The numbers behind learning curves: which runs make a line, their mean and their spread.

Imports neither torch nor Ray.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from _shared import configuration_columns, nearest

from alss_ray.config import UsageError

FEW = 8  # configurations that still get a line each

Point = tuple[float, float, bool]  # labels, metric, whether a round ends there


@dataclass(frozen=True)
class Line:
    """The curves of one group of runs, as they are drawn."""

    label: str
    labels: np.ndarray
    """Numbers of labels, increasing."""
    mean: np.ndarray
    """Mean over the runs that reach there, in the metric's unit."""
    deviation: np.ndarray
    """Sample standard deviation over them; NaN where there is but one."""
    runs: np.ndarray
    """How many runs are behind each point."""
    ends: np.ndarray
    """Whether a run's round ends there."""

    @property
    def legend(self) -> str:
        """Its name and the number of runs behind it; a range where some runs cover only part of the line."""
        low, high = self.runs.min(), self.runs.max()
        count = f"{high}" if low == high else f"{low} to {high}"
        return f"{self.label} ({count} run{'s' if high > 1 else ''})"


def lines(table: pa.Table, metric: str, by: Sequence[str], inside_rounds: bool = False) -> list[Line]:
    """One line for each combination of the values of `by`, sorted by them.

    Args:
        table: the records of rounds, or with `inside_rounds` those of the evaluations inside them.
    """
    names = {"sweep", "experiment", "n_labels", metric, *by}
    names |= {"t", "round_size", "iteration", "iterations"} if inside_rounds else set()
    rows = table.select(sorted(names)).to_pylist()
    bought = {(r["sweep"], r["experiment"], r["t"]): r["n_labels"] for r in rows} if inside_rounds else {}
    groups: dict[tuple[Any, ...], dict[str, dict[str, list[Point]]]]
    groups = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        if row[metric] is None or not np.isfinite(row[metric]):
            continue
        x, end = row["n_labels"], True
        if inside_rounds:
            before = row["t"] - 1
            start = bought.get((row["sweep"], row["experiment"], before), before * row["round_size"])
            x = round(start + (x - start) * row["iteration"] / row["iterations"], 6)
            end = row["iteration"] == row["iterations"]
        groups[tuple(row[name] for name in by)][row["experiment"]][row["sweep"]].append((x, row[metric], end))
    # An experiment that lies in two folders is one run: counting it twice would narrow the band.
    runs = {key: [next(iter(sweeps.values())) for sweeps in found.values()] for key, found in groups.items()}
    return [_line(label(dict(zip(by, key, strict=True))), runs[key]) for key in sorted(runs, key=sorting_key)]


def _line(name: str, runs: Sequence[Sequence[Point]]) -> Line:
    """Mean and spread of runs over the union of their numbers of labels."""
    curves = [np.array(run, float).T for run in runs]
    grid = np.unique(np.concatenate([curve[0] for curve in curves]))
    ends = np.concatenate([curve[0][curve[2] > 0] for curve in curves])
    heights = np.array([np.interp(grid, *curve[:2], left=np.nan, right=np.nan) for curve in curves])
    count = np.isfinite(heights).sum(axis=0)
    mean = np.nanmean(heights, axis=0)
    squares = np.nansum((heights - mean) ** 2, axis=0)
    deviation = np.sqrt(squares / np.where(count > 1, count - 1, np.nan))
    return Line(name, grid, mean, deviation, count, np.isin(grid, ends))


def sorting_key(key: Sequence[Any]) -> list[tuple[bool, float, str]]:
    """Numbers by size, text by letters, missing values first."""
    return [
        (v is not None, float(v), "") if isinstance(v, int | float) else (v is not None, 0.0, str(v))
        for v in key
    ]


def label(values: Mapping[str, Any]) -> str:
    """'snn, direction=random': names speak for themselves, fields that a strategy lacks are left out."""
    plain = ("strategy", "task", "sweep")
    parts = [
        (value if name in plain else f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}")
        for name, value in values.items()
        if value is not None
    ]
    return ", ".join(parts) or "all runs"


def in_rounds(table: pa.Table) -> pa.Table:
    """The rows of runs that bought their labels in more than one round; every row where no run did."""
    several = pc.less(table["round_size"], table["label_budget"])
    return table.filter(several) if pc.any(several).as_py() else table


def default_grouping(table: pa.Table) -> list[str]:
    """Columns that make the lines: the strategy, and what tells configurations apart where they are few."""
    if len(pc.unique(table["configuration"])) <= FEW:
        return distinguishing(table)
    return ["strategy", *(["task"] if len(pc.unique(table["task"])) > 1 else [])]


def distinguishing(table: pa.Table) -> list[str]:
    """The strategy, and the fewest further columns that tell every configuration from the others."""
    fields = [name for name in configuration_columns(table) if name not in ("seed", "strategy")]
    first_rows = table.group_by("configuration", use_threads=False).aggregate(
        [(name, "first") for name in ("strategy", *fields)]
    )
    settings = first_rows.rename_columns(["configuration", "strategy", *fields]).to_pylist()
    varied = [name for name in fields if len({row[name] for row in settings} - {None}) > 1]
    first = {row["strategy"]: row for row in settings}
    texts = [name for name in varied if any(isinstance(row[name], str) for row in settings)]
    for name in reversed(varied):
        # What a word implies goes (alpha = 0 for direction none). What sets whole strategies apart stays: a
        # comparison of unequal round sizes, say, must show as one.
        within = any(row[name] != first[row["strategy"]][name] for row in settings)
        if within and any(_implied(name, w, settings) for w in texts if w != name and w in varied):
            varied.remove(name)
    return ["strategy", *varied]


def _implied(name: str, by: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    """Whether, within each strategy, a column's value follows from another column's."""
    causes = {(row["strategy"], row[by]) for row in settings}
    return len({(row["strategy"], row[by], row[name]) for row in settings}) == len(causes)


def fitting(names: Sequence[str], wanted: str) -> list[int]:
    """Positions of the lines or arms that a name may mean: the one so named, else all that hold each of its parts.

    'snn, direction=none' is a part of 'snn, alpha=0, direction=none'.
    """
    parts = set(wanted.split(", "))
    exact = [k for k, name in enumerate(names) if name == wanted]
    return exact or [k for k, name in enumerate(names) if parts <= set(name.split(", "))]


def chosen_grouping(table: pa.Table, by: str | None) -> list[str]:
    """The columns that were asked for, else the default ones; raises UsageError for an unknown one."""
    if by is None:
        return default_grouping(table)
    names = [name.strip() for name in by.split(",") if name.strip()]
    for name in names:
        if name not in table.column_names:
            raise UsageError(f"--by: there is no column {name}; {nearest(name, table.column_names)}.")
    return names
