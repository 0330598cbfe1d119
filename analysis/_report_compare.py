"""The comparison of a report: the verdict first, then the differences, tests and saved labels that it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from _arms import FACTS, MOST_ARMS
from _paired import ArmResult, Comparison, Difference, Saving, compare
from _people import Pace
from _report_charts import MOST_SERIES, Axes, Series, xy
from _report_page import Cell, Chart, Note, Section, Table
from _report_source import Source, listed
from _shared import counted
from compare import thinned

from alss_ray.config import UsageError

TITLE = "Comparison"
MOST_ROWS = 15


def compared(source: Source) -> Comparison | str:
    """Every arm against random selection, paired by seed; or why there is nothing to compare."""
    if source.configurations == 1:
        return "Nothing is compared: there is one configuration only."
    if not source.one("select count(*) as n from trials where strategy = 'random'")["n"]:
        return (
            "Nothing is compared: no experiment selects at random, which is the baseline. compare.py takes another "
            "baseline, or several folders."
        )
    if source.configurations > MOST_ARMS and not source.confirmed:
        return (
            f"{source.configurations:,} configurations are too many to compare one by one; compare.py --by takes "
            "columns that make fewer arms."
        )
    facts = [name for names in FACTS.values() for name in names]
    columns = ["sweep", "experiment", "configuration", "t", "n_labels", "test_metric", "test_guess", "metric",
               "higher_is_better", "seed", *facts, *source.fields]  # fmt: skip
    where = f"not ({source.searching})" if source.confirmed else "true"
    try:
        return compare(
            source.table(f"select {listed(list(dict.fromkeys(columns)))} from rounds where {where}")
        )
    except UsageError as error:
        return str(error)


def comparison(source: Source, found: Comparison | str, order: Sequence[str]) -> Section:
    """The comparison as a section.

    Args:
        order: names of arms in the order of their styles in the chart of curves, which they keep here.
    """
    commands = [source.script("compare.py")]
    if isinstance(found, str):
        return Section("comparison", TITLE, [found], commands)
    measure = f"test {found.metric}{source.unit}"
    fresh = ["On the fresh seeds alone with which the search confirmed its best."] if source.confirmed else []
    parts: list[Any] = [
        *fresh,
        Note(found.verdict, "verdict"),
        Table(
            f"Area under the curve (AULC) of the {measure}, against {found.baseline}",
            [
                "arm",
                "seeds",
                "labels",
                "AULC",
                "baseline",
                "difference",
                "95 % interval",
                "p (Holm)",
                "verdict",
            ],
            [_row(source, arm) for arm in found.arms],
        ),
        f"p: two-sided permutation test of the pairs, adjusted by Holm for {counted(len(found.arms), 'arm')}. "
        "Intervals: 95 % bootstrap over the seeds.",
    ]
    if any(arm.rounds for arm in found.arms):
        parts.append(_differences(source, found, measure, order))
    parts += [_saved(source, found, measure), _wins(found), *found.notes]
    return Section("comparison", TITLE, parts, commands)


def _row(source: Source, arm: ArmResult) -> list[Any]:
    at = arm.aulc
    return [
        arm.name,
        len(arm.seeds),
        arm.budget,
        source.spread(at.arm, None),
        source.spread(at.baseline, None),
        Cell(f"{source.scale * at.mean:+.2f}", at.mean),
        _interval(at, source.scale),
        at.adjusted_p,
        arm.verdict,
    ]


def _interval(at: Difference, scale: float) -> str:
    return f"{scale * at.interval.low:+.2f} to {scale * at.interval.high:+.2f}" if at.interval else "–"


def _differences(source: Source, found: Comparison, measure: str, order: Sequence[str]) -> Chart:
    """Difference from the baseline after each of its rounds."""
    drawn = sorted(found.arms, key=lambda arm: arm.aulc.mean, reverse=found.higher_is_better)[:MOST_SERIES]
    series = []
    for arm in (arm for arm in found.arms if arm in drawn):
        rows = []
        for at in arm.rounds:
            row = {
                "x": at.labels,
                "y": source.scale * at.mean,
                "round": at.t,
                "95 % interval": _interval(at, source.scale),
            }
            ends = (at.interval.low, at.interval.high) if at.interval else ()
            rows.append(row | dict(zip(("low", "high"), (source.scale * end for end in ends), strict=False)))
        place = order.index(arm.name) if arm.name in order else None
        series.append(Series(arm.name, rows, place=place))
    better = "above" if found.higher_is_better else "below"
    caption = f"Difference from {found.baseline} in {measure}, with 95 % intervals; {better} 0 is better"
    ends = [f"{one.label} {one.rows[-1]['y']:+.2f} at {one.rows[-1]['x']:,}" for one in series if one.rows]
    return xy(
        "differences-chart",
        caption,
        f"{caption}. At the end: {'; '.join(ends)}.",
        series,
        Axes("training labels bought", "difference", level=0, tips=("95 % interval", "round")),
    )


def _saved(source: Source, found: Comparison, measure: str) -> Table:
    """Labels that each arm saves in reaching the levels of the baseline."""
    levels = [{saving.level: saving for saving in arm.savings} for arm in found.arms]
    body = []
    for level in thinned(sorted(set().union(*levels), reverse=not found.higher_is_better), MOST_ROWS):
        needed = next(row[level].baseline_labels for row in levels if level in row)
        row = [source.spread(level, None), Cell(f"{needed:,.0f}", needed)]
        body.append([*row, *(_saving(at.get(level), source.pace) for at in levels)])
    columns = ["level", f"labels of {found.baseline}", *(arm.name for arm in found.arms)]
    caption = (
        f"Labels saved in reaching the {measure} of {found.baseline}, 95 % intervals; below 0 more are needed"
    )
    if source.pace:
        caption += f"; in hours of annotation at {source.pace.per_hour:.3g} labels an hour"
    return Table(caption, columns, body)


def _saving(saving: Saving | None, people: Pace | None) -> Cell | None:
    if saving is None:
        return None
    if saving.saved is None:
        return Cell("not reached", -math.inf)
    text = f"{saving.saved:+,.0f}"
    if saving.interval:
        ends = (
            "not reached" if math.isinf(end) else f"{end:+,.0f}" for end in vars(saving.interval).values()
        )
        text += f" ({' to '.join(ends)})"
    if people:
        text += f", {saving.saved / people.per_hour:+.1f} h"
    return Cell(text, saving.saved)


def _wins(found: Comparison) -> Table:
    """Which arm beats which, with how many of the seeds."""
    body = [
        [
            one,
            *(
                Cell(
                    f"{len(found.wins[one][other])} of {len(found.pairs[one][other])}",
                    len(found.wins[one][other]),
                )
                if one != other
                else None
                for other in found.wins
            ),
        ]
        for one in found.wins
    ]
    return Table(
        "Seeds with which the row's arm has the better AULC than the column's", ["arm", *found.wins], body
    )
