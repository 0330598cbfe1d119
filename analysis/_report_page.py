"""The report as a page: its building blocks, and how they become one HTML file that asks the network for nothing.

All text goes through Jinja's escaping; the page's own policy (CSP) lets only the scripts written here run, so
that even a strategy whose name is HTML stays a name. Imports neither torch nor Ray.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Cell:
    """A table's cell whose text is not how it sorts: '97.6 ± 0.2'."""

    text: str
    value: float | str


@dataclass(frozen=True)
class Table:
    """A table that the reader can sort by any column."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    """Numbers, texts, Cells; None where there is nothing."""
    folded: bool = False
    """Shown when asked for: what a chart shows already."""
    sortable: bool = True

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        return [
            all(not isinstance(_sorted_by(row[k]), str) for row in self.rows)
            for k in range(len(self.columns))
        ]


@dataclass(frozen=True)
class Key:
    """A series in a chart's legend: told by its colour, dash and shape at once."""

    label: str
    colour: str
    """A CSS colour."""
    shape: str
    """SVG path of its mark within [-1, 1]."""
    dash: Sequence[float] | None
    """Lengths in pixels of its line's strokes and gaps; None where it has no line."""
    hollow: bool = False


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite chart with its legend."""

    name: str
    """Identifier in the page."""
    caption: str
    alternative: str
    """What a person who does not see the chart is told."""
    spec: Mapping[str, Any]
    keys: Sequence[Key] = ()


@dataclass(frozen=True)
class Picture:
    """A picture as PNG."""

    caption: str
    alternative: str
    png: bytes

    @property
    def source(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Note:
    """A sentence that stands out."""

    text: str
    kind: str = "note"
    """'verdict', 'warning' or 'note': each says so in words as well."""


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading, and the commands that give it again."""

    name: str
    title: str
    parts: Sequence[str | Note | Table | Chart | Picture]
    commands: Sequence[str] = ()
    unfolded: bool = False
    """Whether the commands are shown without being asked for."""


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The whole page."""
    charts = [part for section in sections for part in section.parts if isinstance(part, Chart)]
    scripts = [_vega()] if charts else []
    scripts.append((HERE / "report.js").read_text(encoding="utf-8"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(sorted_by=_sorted_by, shown=_shown, kind=lambda part: type(part).__name__)
    return environment.get_template("report.html.jinja").render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        # In JSON `<` stands in strings only: so written it can end no element.
        specs=Markup(
            json.dumps({chart.name: chart.spec for chart in charts}, allow_nan=False).replace("<", "\\u003c")
        ),
        scripts=[Markup(script) for script in scripts],
        hashes=[_hash(script) for script in scripts],
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),
    )


@functools.cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which altair's companion vl-convert carries (BSD-3-Clause)."""
    bundle = vl_convert.javascript_bundle()
    if "</script" in bundle.lower():
        raise RuntimeError("This version of vl-convert-python has a script that cannot stand in a page.")
    return bundle


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _sorted_by(cell: Any) -> float | str:
    """What a cell sorts by; nothing comes first. In nine digits: the last bits of sums differ from time to time."""
    if isinstance(cell, Cell):
        return _sorted_by(cell.value)
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return -math.inf
    if isinstance(cell, float):
        return float(f"{cell:.9g}")
    return cell if isinstance(cell, int) else str(cell)


def _shown(cell: Any) -> str:
    """A cell's text: four significant digits, thousands set apart."""
    if isinstance(cell, Cell):
        return cell.text
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:.4g}" if abs(cell) < 10_000 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
