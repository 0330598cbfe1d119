"""Compare arms with a baseline, paired by seed: differences, intervals, tests, labels saved and a verdict.

An arm is a configuration (all fields but the seed), or, with --by, all runs with the same values of some columns.
Differences are arm minus baseline. Intervals are 95 % bootstrap intervals over the seeds (expanded percentiles), each
for itself. The verdict is about the AULC: the permutation test of the pairs, adjusted by Holm for the arms. The tests
at the ends of rounds are adjusted by Holm for the rounds of their arm. Labels saved are read off the mean curves: where
each first reaches the level that the baseline has at the end of a round.

python analysis/compare.py RESULTS

python analysis/compare.py RESULTS --baseline "snn, direction=random"

python analysis/compare.py RESULTS OTHER --by strategy,alpha --metric val_metric --format json
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro
from _arms import needed
from _inference import Interval
from _paired import ArmResult, AtRound, Comparison, Difference, Saving, compare
from _people import COLUMNS, pace
from _shared import guarded, read
from _tables import plain
from rich.markup import escape

from alss_ray.config import UsageError
from alss_ray.display import print_table
from alss_ray.metrics import display_unit

MOST_ROWS = 30


@dataclass(frozen=True)
class CompareOptions:
    """What to compare, and how to print it."""

    results: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RESULTS...", help_behavior_hint="")
    ]
    """Results folders of sweeps or single runs."""
    baseline: str | None = None
    """The arm that the others are compared with: its name as printed, a part of it, or a configuration's hash; the
    one with the strategy random unless given."""
    by: Annotated[str | None, tyro.conf.arg(metavar="COLUMN,...")] = None
    """Columns of the configuration, separated by commas, whose values make an arm; each configuration is one unless
    given."""
    metric: Literal["test_metric", "val_metric"] = "test_metric"
    """The metric on the test set or on the validation set."""
    allow: tuple[Literal["data", "network", "hardware", "validation"], ...] = ()
    """What may differ between paired runs: the task's data and test set, the number of the network's parameters,
    device and processor, the number of validation labels (which counts with --metric val_metric only)."""
    labels_per_hour: float | None = None
    """Labels that people give in an hour: labels saved are told in hours, too; what the records say of people who
    labelled unless given."""
    format: Literal["text", "json"] = "text"
    """text for reading; json for machines, in the metric's own unit and full precision."""


def print_comparison(found: Comparison, per_hour: float | None) -> None:
    """The verdict first, then what it rests on."""
    scale, unit = display_unit(found.metric)
    which = "validation" if found.column == "val_metric" else "test"
    better = "higher" if found.higher_is_better else "lower"
    print(found.verdict)
    measure = f"{which} {found.metric}{unit and f' in{unit}'} on {', '.join(found.tasks)}, {better} is better"
    _print(
        f"AULC of the {measure}",
        [
            "arm",
            "seeds",
            "labels",
            "AULC",
            found.baseline,
            "difference [95 %]",
            "p",
            "Wilcoxon p",
            "Holm p",
            "verdict",
        ],
        [_aulc_row(arm, scale) for arm in found.arms],
        f"p: two-sided permutation test of the pairs; Holm p: adjusted for {_arms(found)}.",
    )
    names = [arm.name for arm in found.arms]
    at_rounds = [{row.labels: row for row in arm.rounds} for arm in found.arms]
    labels = thinned(sorted(set().union(*at_rounds)))
    rounds = {row.labels: row.t for arm in found.arms for row in arm.rounds}
    _print(
        f"Difference from {found.baseline} of the {measure} [95 %]",
        ["t", "labels", *names],
        [
            [str(rounds[n] or "-"), str(n), *(_round_cell(rows.get(n), scale) for rows in at_rounds)]
            for n in labels
        ],
        "* Holm p at most 0.05, adjusted for the rounds of the arm.",
    )
    levels = [{saving.level: saving for saving in arm.savings} for arm in found.arms]
    _print(
        f"Labels saved in reaching what {found.baseline} reaches [95 %]",
        [f"{which} {found.metric}", f"labels of {found.baseline}", *names],
        [
            [
                f"{scale * level:.2f}{unit}",
                f"{next(row[level] for row in levels if level in row).baseline_labels:.0f}",
                *(
                    _saving_cell(rows.get(level), len(arm.seeds), per_hour)
                    for rows, arm in zip(levels, found.arms, strict=True)
                ),
            ]
            for level in thinned(sorted(set().union(*levels), reverse=not found.higher_is_better))
        ],
        "Above 0 the arm needs fewer labels. Not reached: not within the labels compared; as an end of an interval: "
        "not by too many of the resampled arms."
        + (f" Hours: {per_hour:.3g} labels an hour." if per_hour else ""),
    )
    everyone = list(found.wins)
    _print(
        "Seeds won: those with which the row's arm has the better AULC, of all that both have",
        ["", *everyone],
        [
            [
                one,
                *("" if one == other else f"{len(found.wins[one][other])}/{len(found.pairs[one][other])}"
                  for other in everyone),
            ]
            for one in everyone
        ],
        f"Seeds: {', '.join(map(str, sorted({seed for arm in found.arms for seed in arm.seeds})))}.",
    )  # fmt: skip
    for note in found.notes:
        print(note)


def _print(title: str, columns: list[str], rows: list[list[str]], caption: str) -> None:
    """A table whose cells hold square brackets."""
    print_table(title, list(map(escape, columns)), [list(map(escape, row)) for row in rows], caption)


def thinned(rows: list, most: int = MOST_ROWS) -> list:
    """Rows for reading: evenly chosen ones where there are too many, the last among them."""
    step = -(-len(rows) // most) if rows else 1
    return rows[::-1][::step][::-1]


def _arms(found: Comparison) -> str:
    return "1 arm" if len(found.arms) == 1 else f"{len(found.arms)} arms"


def _aulc_row(arm: ArmResult, scale: float) -> list[str]:
    at = arm.aulc
    tests = [_p(at.p), _p(at.wilcoxon_p), _p(at.adjusted_p)]
    values = [f"{scale * at.arm:.2f}", f"{scale * at.baseline:.2f}", _difference(at, scale)]
    return [arm.name, str(len(arm.seeds)), str(arm.budget), *values, *tests, arm.verdict]


def _p(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else "-"


def _difference(at: Difference, scale: float) -> str:
    ends = f" [{scale * at.interval.low:+.2f}, {scale * at.interval.high:+.2f}]" if at.interval else ""
    return f"{scale * at.mean:+.2f}{ends}"


def _round_cell(row: AtRound | None, scale: float) -> str:
    if row is None:
        return "-"
    return _difference(row, scale) + (" *" if row.adjusted_p <= 0.05 else "  ")


def _saving_cell(saving: Saving | None, seeds: int, per_hour: float | None) -> str:
    if saving is None:
        return "-"
    if saving.saved is None:
        return "not reached" + (f" (by {saving.reached:.0%} of resamples)" if seeds > 1 else "")
    interval = f" [{_ends(saving.interval)}]" if saving.interval else ""
    hours = f" = {saving.saved / per_hour:+.1f} h" if per_hour else ""
    return f"{saving.saved:+.0f}{interval}{hours}"


def _ends(interval: Interval) -> str:
    return ", ".join(
        f"{end:+.0f}" if math.isfinite(end) else "not reached" for end in (interval.low, interval.high)
    )


def print_json(found: Comparison, per_hour: float | None) -> None:
    """All of it as one JSON object; what is not finite is null."""
    told = {**dataclasses.asdict(found), "labels_per_hour": per_hour}
    print(json.dumps(plain(told), indent=1, ensure_ascii=False))


def names_of(by: str | None) -> Sequence[str] | None:
    """The columns that an option names, separated by commas."""
    return None if by is None else [name.strip() for name in by.split(",") if name.strip()]


def work(options: CompareOptions) -> None:
    """Read, compare, print."""
    if options.labels_per_hour is not None and not options.labels_per_hour > 0:
        raise UsageError(f"--labels-per-hour is {options.labels_per_hour:g}; give a number above 0.")
    columns = {"metric", "higher_is_better", *needed(options.metric), *COLUMNS}
    tables = read(options.results, ("rounds", "labels"), columns, fields=True)
    found = compare(tables["rounds"], options.metric, names_of(options.by), options.baseline, options.allow)
    people, per_hour = pace(tables["labels"]), options.labels_per_hour
    if per_hour is None and people:
        found = dataclasses.replace(found, notes=(*found.notes, people.told))
        per_hour = people.per_hour
    (print_json if options.format == "json" else print_comparison)(found, per_hour)


if __name__ == "__main__":
    given = tyro.cli(CompareOptions, description=__doc__)
    sys.exit(guarded(lambda: work(given)))
