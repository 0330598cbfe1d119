"""What a report is made of: the records as SQL tables, the manifest, and how its numbers are written."""

from __future__ import annotations

import contextlib
import io
import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

import duckdb
import pyarrow as pa
from _lines import FEW, default_grouping
from _people import COLUMNS, Pace, pace
from _report_page import Cell
from _shared import configuration_columns
from _views import open_views
from query import answer

from alss_ray.config import UsageError
from alss_ray.display import brief
from alss_ray.metrics import display_unit
from alss_ray.places import Place
from alss_ray.results import MANIFEST


@dataclass(frozen=True)
class Source:
    """A results folder, opened."""

    folder: Place
    database: duckdb.DuckDBPyConnection
    manifest: Mapping[str, Any]
    """What was asked for; empty where the folder says nothing."""
    metric: str
    higher_is_better: bool
    problems: Sequence[str] = ()
    """What could not be read, a sentence each."""

    @classmethod
    def of(cls, folder: Place) -> Source:
        """Open a results folder.

        Raises:
            UsageError: no readable records, or records of several metrics.
        """
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            database = open_views([folder])
        print(said.getvalue(), end="", file=sys.stderr)
        metrics = database.sql("select distinct metric, higher_is_better from rounds order by all").fetchall()
        if len(metrics) > 1:
            named = ", ".join(name for name, _ in metrics)
            raise UsageError(f"The records hold several metrics ({named}); a report tells of one.")
        try:
            manifest = json.loads((folder / MANIFEST).read())
        except (OSError, ValueError):
            manifest = {}
        known = manifest if isinstance(manifest, dict) else {}
        return cls(folder, database, known, *metrics[0], problems=said.getvalue().splitlines())

    def table(self, sql: str) -> pa.Table:
        """The answer to an SQL question."""
        return answer(self.database, sql)

    def ask(self, sql: str) -> list[dict[str, Any]]:
        """The same, a dictionary a row."""
        return self.table(sql).to_pylist()

    def one(self, sql: str) -> dict[str, Any]:
        """The one row that an SQL question gives."""
        return self.ask(sql)[0]

    @cached_property
    def pace(self) -> Pace | None:
        """How fast people labelled; None where nobody did."""
        return pace(self.table(f"select experiment, {', '.join(COLUMNS)} from labels"))

    def query(self, sql: str) -> str:
        """The command that asks this."""
        return self.script("query.py", " ".join(sql.split()))

    def script(self, name: str, *words: str) -> str:
        """The command of an analysis script on these results."""
        return shlex.join(["python", f"analysis/{name}", str(self.folder), *words])

    @property
    def best_first(self) -> str:
        """SQL's word for the order in which the best comes first."""
        return "desc" if self.higher_is_better else "asc"

    @property
    def scale(self) -> float:
        """What the metric is multiplied by where it is shown."""
        return display_unit(self.metric)[0]

    @property
    def unit(self) -> str:
        """Behind the metric's name where it is shown."""
        unit = display_unit(self.metric)[1].strip()
        return f" ({unit})" if unit else ""

    def spread(self, mean: float | None, deviation: float | None) -> Cell | None:
        """A metric's mean, and its standard deviation where there is one, in the unit that is shown."""
        if mean is None or not math.isfinite(mean):
            return None
        known = deviation is not None and math.isfinite(deviation)
        return Cell(f"{self.scale * mean:.2f}" + (f" ± {self.scale * deviation:.2f}" if known else ""), mean)

    @cached_property
    def budget(self) -> int:
        """The label budget of most experiments: others' AULC cannot be compared with theirs."""
        sql = "select label_budget from trials group by all order by count(*) desc, 1 desc limit 1"
        return self.one(sql)["label_budget"]

    @property
    def asked(self) -> Mapping[str, Any]:
        """What the manifest says was asked for."""
        asked = self.manifest.get("asked")
        return asked if isinstance(asked, dict) else {}

    @property
    def command(self) -> list[str]:
        """The command line that started the work, as a person types it; empty where that is not known."""
        words = [str(word) for word in self.manifest.get("command") or ()]
        if not words:
            return []
        script = PurePath(words[0])
        start = ["-m", "alss_ray"] if script.name == "__main__.py" else ["/".join(script.parts[-2:])]
        return ["python", *start, *words[1:]]

    @property
    def searching(self) -> str:
        """SQL that is true of the experiments that a search proposed; empty where there was no search."""
        fixed = self.asked.get("experiment")
        if "space" not in self.asked or not isinstance(fixed, dict) or "seed" not in fixed:
            return ""
        return f"seed between {fixed['seed']:d} and {fixed['seed'] + self.asked.get('replicates', 1) - 1:d}"

    @property
    def ended(self) -> str:
        """SQL that is true of the experiments that came to an end: at their budget, or where a search may stop them."""
        rungs = self.asked.get("rungs") or ()
        return f"(finished or n_labels >= {min(rungs):d})" if rungs else "finished"

    @cached_property
    def confirmed(self) -> bool:
        """Whether a search ran its best configurations again, on seeds that it did not choose them by."""
        return bool(self.searching) and bool(
            self.ask(f"select 1 from trials where not ({self.searching}) limit 1")
        )

    @cached_property
    def configurations(self) -> int:
        """How many there are."""
        return self.one("select count(distinct configuration) as n from trials")["n"]

    @cached_property
    def grouping(self) -> list[str] | None:
        """The columns that tell the configurations apart; None where these are too many for a line each."""
        if self.configurations > FEW:
            return None
        return default_grouping(
            self.table(
                f"select configuration, {listed(self.fields)}, any_value(seed) as seed from trials group by all"
            )
        )

    @cached_property
    def compared(self) -> int:
        """How many configurations have spent that budget."""
        sql = (
            "select count(distinct configuration) as n from trials "
            f"where finished and label_budget = {self.budget} and {self.searching or 'true'}"
        )
        return self.one(sql)["n"]

    @cached_property
    def fields(self) -> list[str]:
        """The fields of the configurations, the seed left out."""
        return [name for name in configuration_columns(self.table("from rounds limit 0")) if name != "seed"]

    @cached_property
    def varied(self) -> list[str]:
        """The fields in which the configurations of that budget differ, the strategy first."""
        counts = ", ".join(f"count(distinct {quoted(name)}) as {quoted(name)}" for name in self.fields)
        found = self.one(f"select {counts} from trials where label_budget = {self.budget}").values()
        names = [name for name, n in zip(self.fields, found, strict=True) if n > 1 and name != "strategy"]
        return ["strategy", *names]

    def named(self, row: Mapping[str, Any]) -> str:
        """A configuration in a line: its strategy, and what tells it from the others."""
        other_budget = row.get("label_budget") not in (None, self.budget)
        values = {name: row[name] for name in self.varied if name != "strategy" and row.get(name) is not None}
        values |= {"label_budget": row["label_budget"]} if other_budget else {}
        return ", ".join([str(row["strategy"]), *([brief(values)] if values else [])])


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: Sequence[str]) -> str:
    """Columns' names in SQL."""
    return ", ".join(map(quoted, names))
