"""Draw learning curves (the paper's Figure 3): mean and standard deviation of the metric over the labels bought.

One line a strategy; where the records hold no more than 8 configurations, one line a configuration, named by
what tells it from the others. Runs whose evaluations lie at different numbers of labels are interpolated
linearly, each within its own range. An accuracy is drawn in %, other metrics in the task's own unit. A level line
shows the baseline's final value, and rings where the other lines first reach it, at the labels that the legend names.

python analysis/curves.py RESULTS

python analysis/curves.py RESULTS --by strategy,alpha --out figures/alpha

python analysis/curves.py RESULTS --inside-rounds
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tyro
from _figures import save, stem
from _inference import labels_to_reach
from _lines import Line, chosen_grouping, fitting, in_rounds, lines
from _shared import guarded, read

from alss_ray.config import UsageError
from alss_ray.metrics import display_unit
from alss_ray.places import Place

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

MOST_LINES = 24  # more cannot be told apart
# Okabe and Ito's colours without their yellow, which is faint on white; marker and dash differ as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#7F7F7F")
MARKERS = (
    ("o", 5.5),
    ("s", 5.5),
    ("^", 6.5),
    ("D", 5.5),
    ("v", 6.5),
    ("P", 7.5),
    ("X", 7.5),
    ("*", 10),
)  # size in points
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1.5)))


@dataclass(frozen=True)
class CurvesOptions:
    """What to draw, and where to."""

    results: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RESULTS...", help_behavior_hint="")
    ]
    """Results folders of sweeps or single runs."""
    metric: Literal["test_metric", "val_metric"] = "test_metric"
    """The metric on the test set or on the validation set."""
    by: Annotated[str | None, tyro.conf.arg(metavar="COLUMN,...")] = None
    """Columns, separated by commas, whose values make a line; chosen as said above unless given."""
    baseline: str | None = None
    """The line whose final value is marked on the others: its name in the legend, or a part of it; the one with the
    strategy random unless given."""
    only: Annotated[str | None, tyro.conf.arg(metavar="LINE;...")] = None
    """Lines to draw, by their names in the legend, separated by semicolons; all unless given."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER_OR_STEM")] = None
    """Folder for curves.png and curves.svg, or a path to which .png and .svg are added; the first results folder
    unless given."""
    inside_rounds: bool = False
    """Draw the evaluations inside rounds too, so that the drop and rebound with fresh samples can be seen: each
    round's iterations are spread over the labels it bought. Always the validation metric, as only that is
    evaluated there."""


def figure(
    found: Sequence[Line],
    metric: str,
    which: str,
    tasks: str,
    inside_rounds: bool = False,
    references: Mapping[str, float] | None = None,
    mark: Mark | None = None,
) -> Figure:
    """The lines with a band of one standard deviation on either side.

    Args:
        metric: the metric's name as the task gives it.
        which: "test" or "validation".
        tasks: what stands in the title.
        inside_rounds: leave the first climb out of sight, so that later drops can be seen.
        references: name -> value of what is drawn as a level line.
        mark: the baseline's final value and where it is reached.
    """
    scale, unit = display_unit(metric)
    legends = [line.legend + (f": {mark.told(k)}" if mark else "") for k, line in enumerate(found)]
    columns = 2 if len(found) > 1 and max(map(len, legends)) < 44 else 1
    height = 4.6 + 0.24 * -(-len(found) // columns)
    drawn, axes = plt.subplots(figsize=(10 if inside_rounds else 7.4, height), layout="constrained")
    for k, line in enumerate(found):
        colour = COLOURS[k % len(COLOURS)]
        # The marker moves on by one when the colours begin again.
        marker, size = MARKERS[(k + k // len(COLOURS)) % len(MARKERS)]
        mean, deviation = scale * line.mean, scale * line.deviation
        axes.plot(
            line.labels, mean, color=colour, linestyle=DASHES[k % len(DASHES)], linewidth=1.8, label=legends[k],
            marker=marker, markersize=size, markeredgecolor="white",
            markeredgewidth=0.6, markevery=_marked(line),
        )  # fmt: skip
        if np.isfinite(deviation).any():
            low, high = mean - deviation, mean + deviation
            axes.fill_between(line.labels, low, high, color=colour, alpha=0.11, linewidth=0)
            # Thin edges, without which overlapping bands cannot be told apart.
            axes.plot(line.labels, np.array([low, high]).T, color=colour, linewidth=0.6, alpha=0.55)
    for k, (label, value) in enumerate((references or {}).items()):
        axes.axhline(
            scale * value, color="0.25", linewidth=1.2, linestyle=DASHES[-1 - k % len(DASHES)], label=label
        )
    if mark is not None:
        axes.axhline(scale * mark.level, color="0.45", linewidth=0.9, zorder=1)
        for k, labels in enumerate(mark.labels):
            if k != mark.baseline and labels is not None:
                axes.plot(
                    [labels], [scale * mark.level], marker="o", markersize=12, markerfacecolor="none",
                    markeredgecolor=COLOURS[k % len(COLOURS)], markeredgewidth=1.6, zorder=5,
                )  # fmt: skip
    if inside_rounds:
        axes.set_ylim(bottom=scale * _floor(found))
    spread = any(np.isfinite(line.deviation).any() for line in found)
    what = "mean ± standard deviation over runs" if spread else "single runs"
    axes.set_title(f"{tasks}: {what}", fontsize=11)
    inside = "; a round's iterations are spread over the labels it bought" if inside_rounds else ""
    axes.set_xlabel(f"training labels bought{inside}", fontsize=12)
    axes.set_ylabel(f"{which} {metric}{unit and f' ({unit.strip()})'}", fontsize=12)
    axes.tick_params(labelsize=10.5)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    drawn.legend(loc="outside lower center", ncols=columns, fontsize=10, frameon=False, handlelength=4)
    return drawn


@dataclass(frozen=True)
class Mark:
    """The final value of one line, and where the lines first reach it."""

    baseline: int
    """Position of the line whose value it is."""
    level: float
    """Its mean at its last round's end, in the metric's unit."""
    labels: tuple[float | None, ...]
    """Labels at which each line's mean, over its rounds' ends, first reaches the level; None where it does not."""

    def told(self, k: int) -> str:
        """What a line's legend says of it."""
        labels = self.labels[k]
        if k == self.baseline:
            return "ends on the level line"
        return "does not reach it" if labels is None else f"reaches it at {labels:.0f} labels"


def marked(found: Sequence[Line], baseline: str | None, higher_is_better: bool) -> Mark | None:
    """Where the lines reach the baseline's final value; None where no baseline is named and none is alone random.

    Raises:
        UsageError: no line, or more than one, has the name that was given.
    """
    names = [line.label for line in found]
    fit = fitting(names, baseline or "random")
    if len(fit) != 1:
        if baseline is None:
            return None
        which = f"{len(fit)} lines could be" if fit else "There is no line"
        raise UsageError(f"--baseline: {which} {baseline!r}; the lines are {'; '.join(map(repr, names))}.")
    if len(found) == 1:
        return None
    sign = 1 if higher_is_better else -1
    base = found[fit[0]]
    level = base.mean[base.ends][-1]
    labels = [
        labels_to_reach(np.array([sign * level]), line.labels[line.ends], sign * line.mean[None, line.ends])[
            0
        ]
        for line in found
    ]
    return Mark(fit[0], float(level), tuple(float(n) if np.isfinite(n) else None for n in labels))


def _marked(line: Line) -> list[int]:
    """Indices of the points that get a marker: rounds' ends, thinned out where they crowd."""
    ends = np.flatnonzero(line.ends)
    return ends[:: max(1, len(ends) // 20)].tolist()


def _floor(found: Sequence[Line]) -> float:
    """A little below the lowest that any band reaches once its first round has ended."""
    lows = []
    for line in found:
        since = np.flatnonzero(line.ends)[0] if line.ends.any() else 0
        lows.append((line.mean - np.nan_to_num(line.deviation))[since:].min())
    top = max(line.mean.max() for line in found)
    return min(lows) - 0.05 * (top - min(lows))


def levels(table: pa.Table, rounds: pa.Table, metric: str) -> tuple[pa.Table, dict[str, float]]:
    """What is drawn as level lines, and the rest of the table.

    Those are runs that bought all their labels in one round, beside others that did not, and, where lower is
    better, the value of the best prediction without learning.
    """
    references: dict[str, float] = {}
    if len(in_rounds(rounds)) < len(rounds):
        at_once = rounds.filter(pc.greater_equal(rounds["round_size"], rounds["label_budget"]))
        whole = at_once.group_by(["strategy", "label_budget"]).aggregate([(metric, "mean")])
        for row in whole.to_pylist():
            references[f"{row['strategy']}, all {row['label_budget']:,} labels at once"] = row[
                f"{metric}_mean"
            ]
        table = in_rounds(table)
    if not pc.any(rounds["higher_is_better"]).as_py():
        guess = "val_guess" if metric == "val_metric" else "test_guess"
        if (value := pc.mean(rounds[guess]).as_py()) is not None:
            references["without learning"] = value
    return table, references


def chosen(found: Sequence[Line], names: Sequence[str]) -> list[Line]:
    """The lines of these names, in this order.

    Raises:
        UsageError: there is no line of a name.
    """
    by_name = {line.label: line for line in found}
    if unknown := [name for name in names if name not in by_name]:
        raise UsageError(f"--only has {unknown[0]!r}; the lines are {'; '.join(by_name)}.")
    return [by_name[name] for name in names]


def draw(options: CurvesOptions) -> None:
    """Read the records, draw them, write both files and print their paths."""
    kind = "curves" if options.inside_rounds else "rounds"
    tables = read(options.results, {"rounds", kind})
    table = tables[kind]
    if not len(table):
        raise UsageError("The records hold no evaluation inside a round; leave --inside-rounds out.")
    metrics = sorted(set(tables["rounds"]["metric"].to_pylist()))
    if len(metrics) > 1:
        raise UsageError(f"The records hold several metrics ({', '.join(metrics)}); draw one task at a time.")
    metric = "val_metric" if options.inside_rounds else options.metric
    table, known = levels(table, tables["rounds"], metric)
    by = chosen_grouping(table, options.by)
    found = lines(table, metric, by, options.inside_rounds)
    if not found:
        raise UsageError(f"The records hold no value of {metric}.")
    if options.only is not None:
        found = chosen(found, [name.strip() for name in options.only.split(";")])
    if len(found) > MOST_LINES:
        raise UsageError(
            f"{len(found)} lines cannot be told apart; give --by columns with fewer values, or --only some."
        )
    tasks = ", ".join(sorted(set(table["task"].to_pylist())))
    which = "validation" if metric == "val_metric" else "test"
    higher_is_better = pc.any(tables["rounds"]["higher_is_better"]).as_py()
    mark = marked(found, options.baseline, higher_is_better)
    drawn = figure(found, metrics[0], which, tasks, options.inside_rounds, known, mark)
    for path in save(drawn, stem(options.out, Place(options.results[0]), "curves")):
        print(path)


if __name__ == "__main__":
    given = tyro.cli(CurvesOptions, description=__doc__)
    sys.exit(guarded(lambda: draw(given)))
