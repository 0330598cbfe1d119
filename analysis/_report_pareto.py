"""The Pareto front of a report: the metric against what the oracle was asked."""

from __future__ import annotations

from typing import Any

from _report_charts import Axes, Series, xy
from _report_page import Cell, Section, Table
from _report_source import Source, listed

BINS = 24  # what lies behind the front is thinned to a point a bin, as many bins along each axis


def front_sql(source: Source) -> str:
    """Mean cost and metric of each configuration after each round, and whether nothing beats it at its cost."""
    sign = "" if source.higher_is_better else "-"
    return f"""
        with bought as (
          select configuration, t, val_metric, test_metric,
            n_val_labels + sum(oracle_calls) over (partition by sweep, experiment order by t) as cost
          from rounds where isfinite(val_metric)),
        points as (
          select configuration, t, count(*) as seeds, avg(cost) as cost, avg(val_metric) as val_metric,
            avg(test_metric) as test_metric
          from bought group by all)
        select *, coalesce({sign}val_metric > max({sign}val_metric) over (
            order by cost, {sign}val_metric desc, configuration, t
            rows between unbounded preceding and 1 preceding), true) as front
        from points where cost is not null"""


def pareto(source: Source) -> Section:
    """Which configurations, stopped where, give the best metric for what the oracle was asked."""
    sql, metric, unit = front_sql(source), source.metric, source.unit
    title = f"{metric[0].upper()}{metric[1:]} against oracle cost"
    front = source.ask(f"select * from ({sql}) where front order by cost")
    if not front:
        return Section("pareto", title, [f"No record holds a finite validation {metric} and its cost."])
    behind = source.one(f"select count(*) as n from ({sql}) where not front")["n"]
    cloud = source.ask(
        f"""select * exclude (a, b) from (
              select *, ntile({BINS}) over (order by cost, configuration, t) as a,
                ntile({BINS}) over (order by val_metric, configuration, t) as b
              from ({sql}) where not front)
            qualify row_number() over (partition by a, b order by configuration, t) = 1
            order by cost, val_metric, configuration, t"""
    )
    kept = ", ".join(sorted({f"'{point['configuration']}'" for point in [*front, *cloud]}))
    described = source.ask(
        f"select distinct configuration, label_budget, {listed(source.varied)} from trials "
        f"where configuration in ({kept})"
    )
    names = {row["configuration"]: source.named(row) for row in described}
    first, last = front[0], front[-1]
    caption = f"Validation {metric} against what the oracle was asked"
    chart = xy(
        "pareto-chart",
        caption,
        f"{caption}. The front runs from {source.scale * first['val_metric']:.4g} at {first['cost']:,.0f} images "
        f"to {source.scale * last['val_metric']:.4g} at {last['cost']:,.0f}.",
        [
            Series(
                "behind the front", [_point(source, point, names) for point in cloud], "points", muted=True
            ),
            Series("Pareto front", [_point(source, point, names) for point in front], "step"),
        ][not cloud :],
        Axes(
            "images the oracle was asked",
            f"validation {metric}{unit}",
            tips=(f"test {metric}{unit}", "configuration", "round", "seeds"),
        ),
    )
    body = [
        [
            Cell(f"{point['cost']:,.0f}", point["cost"]),
            source.spread(point["val_metric"], None),
            source.spread(point["test_metric"], None),
            names[point["configuration"]],
            point["t"],
            point["seeds"],
        ]
        for point in front
    ]
    columns = ["images asked", f"validation{unit}", f"test{unit}", "configuration", "round", "seeds"]
    thinned = (
        f" {len(cloud):,} of the others are drawn, spread over their range." if len(cloud) < behind else ""
    )
    said = (
        f"Each point is a configuration stopped after a round, mean over its seeds; {len(front):,} of "
        f"{len(front) + behind:,} are beaten by none that cost as much or less.{thinned} Cost counts the validation "
        "labels and every image that the oracle was asked about, refused ones and those whose label a cache had as "
        "well: it is what the "
        "work would cost anew."
    )
    return Section(
        "pareto", title, [said, chart, Table("The front", columns, body, folded=True)], [source.query(sql)]
    )


def _point(source: Source, point: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {
        "x": point["cost"],
        "y": source.scale * point["val_metric"],
        f"test {source.metric}{source.unit}": source.scale * point["test_metric"],
        "configuration": names[point["configuration"]],
        "round": point["t"],
        "seeds": point["seeds"],
    }
