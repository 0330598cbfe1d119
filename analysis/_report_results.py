"""What a report says of the results: the best configurations and their learning curves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from _lines import FEW, Line, lines
from _report_charts import Axes, Series, xy
from _report_page import Note, Section, Table
from _report_source import Source, listed
from _shared import counted

BEST = 20  # configurations in the table
DRAWN = 5  # of many configurations, those with a curve of their own


def best_sql(source: Source) -> str:
    """One row a configuration, the best first."""
    return f"""
        select configuration, {listed(source.varied)}, count(*) as seeds,
          avg(val_aulc) as val_aulc, stddev_samp(val_aulc) as val_aulc_sd,
          avg(val_metric) as val_metric, stddev_samp(val_metric) as val_metric_sd,
          avg(test_metric) as test_metric, stddev_samp(test_metric) as test_metric_sd,
          sum(seconds) / count(*) as seconds
        from trials where {
        " and ".join(
            filter(
                None,
                [f"finished and label_budget = {source.budget} and isfinite(val_aulc)", source.searching],
            )
        )
    }
        group by all order by val_aulc {source.best_first}, configuration limit {BEST}"""


def best(source: Source) -> Section:
    """The best configurations by what searches optimise."""
    title = "Best configurations"
    sql = best_sql(source)
    rows = source.ask(sql)
    if not rows:
        return Section(
            "best", title, ["No experiment has spent its label budget yet, so none can be called the best."]
        )
    others = source.one(
        "select count(distinct configuration) as n from trials "
        f"where finished and label_budget <> {source.budget}"
    )["n"]
    left_out = (
        f" Left out, as AULC compares at one budget only: {others} with another budget." if others else ""
    )
    of = f"The best {len(rows)} of" if source.compared > 1 else "The"
    parts: list[Any] = [
        f"{of} {counted(source.compared, 'configuration')} that spent {source.budget:,} "
        "labels, by the area under the validation learning curve (AULC), which searches optimise; test scores "
        f"are told, never optimised.{left_out}"
    ]
    caption = f"AULC, and {source.metric} at the end{source.unit}"
    if any(row["seeds"] > 1 for row in rows):
        caption += "; mean ± standard deviation over seeds"
    elif len(rows) > 1:
        parts.append(
            Note("One seed each: these experiments cannot tell how far their order is luck.", "warning")
        )
    shown = [name for name in source.varied if any(row[name] is not None for row in rows)]
    scores = ("val_aulc", "val_metric", "test_metric")
    body = [
        [
            *(row[name] for name in shown),
            row["seeds"],
            *(source.spread(row[name], row[f"{name}_sd"]) for name in scores),
            row["seconds"],
            row["configuration"],
        ]
        for row in rows
    ]
    columns = [*shown, "seeds", "AULC", "validation", "test", "seconds", "configuration"]
    return Section("best", title, [*parts, Table(caption, columns, body)], [source.query(sql)])


def curves(source: Source) -> Section:
    """Learning curves: a line a configuration where they are few, else the best ones and each strategy's mean."""
    own = source.searching or "true"
    at_once = "round_size >= label_budget"
    several = source.one(f"select count(*) as n from rounds where not ({at_once})")["n"] > 0
    if several:
        own = f"{own} and not ({at_once})"
    commands = [source.script("curves.py"), source.script("curves.py", "--inside-rounds")]
    if source.grouping is not None:
        found = _lines(source, own, source.grouping)
        said = "A line a configuration."
    else:
        top = {row["configuration"]: source.named(row) for row in source.ask(best_sql(source))[:DRAWN]}
        found = [
            dataclasses.replace(line, label=label)
            for name, label in top.items()
            for line in _lines(source, f"configuration = '{name}' and {own}", [])
        ]
        means = _lines(source, own, ["strategy"])[: FEW - len(top)]
        found += [dataclasses.replace(line, label=f"{line.label}, all configurations") for line in means]
        said = f"The best {len(top)} of {source.configurations:,} configurations, and each strategy's mean over all."
        sql = f"""
            select configuration, n_labels, avg(test_metric), stddev_samp(test_metric), count(*) from rounds
            where configuration in ({", ".join(f"'{name}'" for name in top)}) group by all order by all"""
        commands = [source.query(sql), source.script("curves.py", "--by", "strategy")]
    if not found:
        return Section("curves", "Learning curves", [f"No record holds a finite test {source.metric}."])
    spread = any(math.isfinite(d) for line in found for d in line.deviation)
    what = (
        "mean and a band of one standard deviation over runs"
        if spread
        else "single runs, which have no spread"
    )
    caption = f"Test {source.metric} over labels: {what}"
    ends = [f"{line.label} {source.scale * line.mean[-1]:.4g} at {line.labels[-1]:,.0f}" for line in found]
    chart = xy(
        "curves-chart",
        caption,
        f"{caption}. At the end: {', '.join(ends)}.",
        [
            *(Series(line.label, _rows(source, line)) for line in found),
            *(_levels(source, found, at_once) if several else ()),
        ],
        Axes(
            "training labels bought",
            f"test {source.metric}{source.unit}",
            tips=("standard deviation", "runs"),
        ),
    )
    return Section("curves", "Learning curves", [said, chart, _numbers(source, found)], commands)


def _levels(source: Source, found: Sequence[Line], at_once: str) -> list[Series]:
    """Level lines: what runs reached that bought all their labels at once, and what is known without learning."""
    rows = source.ask(f"""
        select strategy, label_budget, avg(test_metric) as level, count(*) as runs from rounds
        where {at_once} group by all order by all""")
    levels = {
        f"{row['strategy']}, all {row['label_budget']:,} labels at once": (row["level"], row["runs"])
        for row in rows
    }
    if not source.higher_is_better:
        guess = source.one("select avg(test_guess) as level, count(distinct experiment) as runs from rounds")
        levels["without learning"] = (guess["level"], guess["runs"])
    ends = [min(line.labels[0] for line in found), max(line.labels[-1] for line in found)]
    return [
        Series(
            label,
            [
                {"x": float(x), "y": source.scale * level, "runs": runs, "standard deviation": None}
                for x in ends
            ],
            muted=True,
            place=2 + k % 2,
        )
        for k, (label, (level, runs)) in enumerate(levels.items())
        if level is not None
    ]


def _lines(source: Source, where: str, by: Sequence[str]) -> list[Line]:
    names = listed(dict.fromkeys(["sweep", "experiment", "n_labels", "test_metric", *by]))
    return lines(source.table(f"select {names} from rounds where {where}"), "test_metric", by)


def _rows(source: Source, line: Line) -> list[dict[str, Any]]:
    """A line's points, with a band where there is a spread."""
    made = []
    points = zip(
        line.labels.tolist(), line.mean.tolist(), line.deviation.tolist(), line.runs.tolist(), strict=True
    )
    for x, mean, deviation, runs in points:
        row = {"x": x, "y": source.scale * mean, "runs": runs, "standard deviation": None}
        if math.isfinite(deviation):
            d = source.scale * deviation
            row |= {"standard deviation": d, "low": row["y"] - d, "high": row["y"] + d}
        made.append(row)
    return made


def _numbers(source: Source, found: Sequence[Line]) -> Table:
    """What the chart shows, as a table: a row a number of labels, a column a line."""
    columns = [
        {x: source.spread(mean, deviation) for x, mean, deviation in zip(
            line.labels.tolist(), line.mean.tolist(), line.deviation.tolist(), strict=True)}
        for line in found
    ]  # fmt: skip
    grid = sorted(set().union(*columns))
    body = [[int(x) if x.is_integer() else x, *(column.get(x) for column in columns)] for x in grid]
    caption = f"The curves in numbers, test {source.metric}{source.unit}"
    return Table(caption, ["labels", *(line.label for line in found)], body, folded=True)
