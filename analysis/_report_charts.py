"""The report's charts: series over an axis, told apart by colour, dash and shape at once, and bars.

Colours are the page's own CSS variables, so that charts follow it into dark mode and onto paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt
from _report_page import Chart, Key

SHAPES = (
    "M1 0A1 1 0 1 1 -1 0A1 1 0 1 1 1 0Z",
    "M-.9-.9H.9V.9H-.9Z",
    "M0-1.1L1.1.9H-1.1Z",
    "M0-1.25L1.25 0L0 1.25L-1.25 0Z",
    "M0 1.1L1.1-.9H-1.1Z",
    "M-.4-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
    "M-1-.5L-.5-1L0-.5L.5-1L1-.5L.5 0L1 .5L.5 1L0 .5L-.5 1L-1 .5L-.5 0Z",
    "M0-1.3L.35-.4L1.3-.4L.55.2L.8 1.1L0 .55L-.8 1.1L-.55.2L-1.3-.4L-.35-.4Z",
)
DASHES = ((1, 0), (5, 3), (2, 2), (8, 3, 2, 3), (4, 2))  # pixels
MOST_SERIES = len(SHAPES)
FORMAT = ",.4~g"
HEIGHT = 320  # pixels
INTERPOLATIONS = {"line": "linear", "step": "step-after"}


@dataclass(frozen=True)
class Series:
    """One line or cloud of a chart."""

    label: str
    rows: Sequence[Mapping[str, Any]]
    """`x`, `y`, perhaps `low` and `high`, and what else the tooltip tells: heading -> value."""
    mark: Literal["line", "step", "points"] = "line"
    muted: bool = False
    """What stands behind the others."""
    place: int | None = None
    """Which of the MOST_SERIES styles it has; by its position unless given."""


@dataclass(frozen=True)
class Axes:
    """What the axes and the tooltips say."""

    x: str
    y: str
    log_x: bool = False
    words_x: bool = False
    """x is a choice of words."""
    level: float | None = None
    """A height at which a level line is drawn: no difference, say."""
    tips: Sequence[str] = ()
    """Further headings of the tooltip."""


def xy(name: str, caption: str, alternative: str, series: Sequence[Series], axes: Axes) -> Chart:
    """Series over x, each with a band where its rows have one; no more than MOST_SERIES of them."""
    keys = [_key(k, one) for k, one in enumerate(series)]
    rows = _rows(series)

    def styled(channel: Any, values: Sequence[Any]) -> Any:
        scale = alt.Scale(domain=[one.label for one in series], range=list(values))
        return channel("line:N", scale=scale, legend=None)

    colour = styled(alt.Color, [key.colour for key in keys])
    dash = styled(alt.StrokeDash, [list(key.dash or DASHES[0]) for key in keys])
    shape = styled(alt.Shape, [key.shape for key in keys])
    kind: Any = "log" if axes.log_x else "linear"
    number = alt.Axis(format=FORMAT)
    along = alt.Scale(type=kind, nice=False, zero=alt.Undefined if axes.log_x else False, padding=12)
    words = alt.X("x:N", title=axes.x)
    x = words if axes.words_x else alt.X("x:Q", title=axes.x, scale=along, axis=number)
    y = alt.Y("y:Q", title=axes.y, scale=alt.Scale(zero=False), axis=number)
    base = alt.Chart().transform_filter("indexof(hidden, datum.line) < 0").encode(x=x, color=colour)
    layers: list[Any] = []
    if axes.level is not None:
        level = alt.Chart(alt.Data(values=[{"level": axes.level}]))
        layers.append(level.mark_rule(color="var(--soft)", strokeWidth=1.5, aria=False).encode(y="level:Q"))
    if any("low" in row for row in rows):
        band = base.transform_filter("isValid(datum.low)").mark_area(opacity=0.14, aria=False)
        layers.append(band.encode(y="low:Q", y2="high:Q"))
    for mark, interpolation in INTERPOLATIONS.items():
        if drawn := [one.label for one in series if one.mark == mark]:
            lines = base.transform_filter(alt.FieldOneOfPredicate(field="line", oneOf=drawn))
            lines = lines.mark_line(interpolate=interpolation, strokeWidth=2, aria=False)
            layers.append(lines.encode(y=y, strokeDash=dash))
    points = base.mark_point(
        filled=True, size=50, opacity=1, stroke="var(--paper)", strokeWidth=0.8, ariaRoleDescription="datum"
    )
    told = {"line": " "} if len(series) > 1 else {}
    told |= {"x": axes.x, "y": axes.y} | {heading: heading for heading in axes.tips}
    tooltip = [_tip(rows, name, heading) for name, heading in told.items()]
    layers.append(points.encode(y=y, shape=shape, tooltip=tooltip))
    whole = alt.layer(*layers, data=alt.Data(values=rows)).add_params(alt.param(name="hidden", value=[]))
    return Chart(name, caption, alternative, _finished(whole, HEIGHT), keys if len(keys) > 1 else ())


def bars(name: str, caption: str, alternative: str, series: Sequence[Series], axes: Axes) -> Chart:
    """Horizontal bars of two series beside each other, full and hollow: `y` is a bar's name, `x` its length."""
    keys = [Key(one.label, f"var(--c{k})", SHAPES[1], None, hollow=k > 0) for k, one in enumerate(series)]
    labels = [one.label for one in series]
    rows = _rows(series)

    def styled(values: Sequence[Any]) -> alt.Scale:
        return alt.Scale(domain=labels, range=list(values))

    colours = styled([key.colour for key in keys])
    drawn = alt.Chart(alt.Data(values=rows)).transform_filter("indexof(hidden, datum.line) < 0")
    drawn = drawn.mark_bar(ariaRoleDescription="datum", strokeWidth=1.5).encode(
        x=alt.X("x:Q", title=axes.x, axis=alt.Axis(format=FORMAT)),
        y=alt.Y("y:N", title=axes.y, sort=None, axis=alt.Axis(labelLimit=140)),
        yOffset=alt.YOffset("line:N", sort=labels),
        fill=alt.Fill("line:N", scale=colours, legend=None),
        stroke=alt.Stroke("line:N", scale=colours, legend=None),
        fillOpacity=alt.FillOpacity(
            "line:N", scale=styled([0.1 if k.hollow else 0.9 for k in keys]), legend=None
        ),
        tooltip=[_tip(rows, *pair) for pair in (("line", " "), ("y", axes.y), ("x", axes.x))],
    )
    whole = drawn.add_params(alt.param(name="hidden", value=[]))
    count = len({row["y"] for row in rows}) * len(series)
    return Chart(name, caption, alternative, _finished(whole, 40 + 22 * count), keys)


def _rows(series: Sequence[Series]) -> list[dict[str, Any]]:
    """The data of a chart, in six digits: more cannot be seen, and sums differ in their last bits."""
    return [
        {"line": one.label}
        | {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in row.items()}
        for one in series
        for row in one.rows
    ]


def _key(k: int, series: Series) -> Key:
    at = k if series.place is None else series.place
    colour = f"var(--c{'7' if series.muted else at})"
    return Key(
        series.label, colour, SHAPES[at], DASHES[at % len(DASHES)] if series.mark != "points" else None
    )


def _tip(rows: Sequence[Mapping[str, Any]], field: str, heading: str) -> alt.Tooltip:
    """A line of the tooltip: numbers in four digits, text as it is."""
    if all(isinstance(row.get(field), int | float | None) for row in rows):
        return alt.Tooltip(field=field, type="quantitative", title=heading, format=FORMAT)
    return alt.Tooltip(field=field, type="nominal", title=heading)


def _finished(chart: Any, height: int) -> dict[str, Any]:
    """The specification in the page's own colours, as wide as the page has room."""
    ink, soft = "var(--ink)", "var(--soft)"
    axis = {
        "domainColor": soft, "tickColor": soft, "gridColor": "var(--rule)", "labelColor": soft, "titleColor": ink,
        "labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal", "labelOverlap": True, "tickCount": 8,
    }  # fmt: skip
    chart = chart.properties(width="container", height=height)
    spec = chart.to_dict(validate=False)
    spec["config"] = {
        "background": None,
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": axis,
    }
    return spec
