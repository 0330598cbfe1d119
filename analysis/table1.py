"""Make the paper's Table 1 from records: the test metric at each t, its spread over seeds, and the paper's own rows.

Each configuration is a column, or, with --by, all runs with the same values of some columns of the records. Runs that
bought the whole pool's labels in one round are the reference below the table.

python analysis/table1.py RESULTS

python analysis/table1.py RESULTS --format markdown
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import tyro
from _lines import chosen_grouping, distinguishing, in_rounds, label, sorting_key
from _shared import guarded, read

from alss_ray.config import UsageError
from alss_ray.display import print_table
from alss_ray.table1 import Table1, table1

MOST_COLUMNS = 12
NEEDED = (
    "experiment",
    "t",
    "n_labels",
    "seed",
    "task",
    "metric",
    "test_metric",
    "test_guess",
    "label_budget",
)


@dataclass(frozen=True)
class Table1Options:
    """What to put into the table, and how to print it."""

    results: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RESULTS...", help_behavior_hint="")
    ]
    """Results folders of sweeps or single runs on one task."""
    by: Annotated[str | None, tyro.conf.arg(metavar="COLUMN,...")] = None
    """Columns, separated by commas, whose values make a column of the table; each configuration is one unless given."""
    format: Literal["text", "markdown"] = "text"
    """How to print it."""


def arms(table: pa.Table, by: str | None) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each column of the table, an experiment that lies in two folders counted once.

    Raises:
        UsageError: several tasks, round sizes or too many arms: what stands at one t must be comparable.
    """
    for name in ("task", "metric", "round_size"):
        if len(found := sorted(set(table[name].to_pylist()), key=str)) > 1:
            raise UsageError(
                f"The records hold several values of {name} ({', '.join(map(str, found))}), which a row of Table 1 "
                "cannot have in common; take analysis/compare.py, or other results."
            )
    columns = distinguishing(table) if by is None else chosen_grouping(table, by)
    groups: dict[tuple[Any, ...], dict[tuple[str, int], Mapping[str, Any]]] = {}
    for row in table.select(sorted({*NEEDED, *columns})).to_pylist():
        key = tuple(row[name] for name in columns)
        groups.setdefault(key, {}).setdefault((row["experiment"], row["t"]), row)
    if len(groups) > MOST_COLUMNS:
        raise UsageError(f"{len(groups)} arms make no table; give --by columns with fewer values.")
    return {
        label(dict(zip(columns, key, strict=True))): list(groups[key].values())
        for key in sorted(groups, key=sorting_key)
    }


def print_markdown(made: Table1) -> None:
    """The table as Markdown."""
    print(f"{made.title}:\n")
    print("|", " | ".join(made.columns), "|")
    print("|" + "--:|" * len(made.columns))
    for row in made.body:
        print("|", " | ".join(row), "|")
    if made.caption:
        print(f"\n{made.caption}")


def work(options: Table1Options) -> None:
    """Read, make the table, print it."""
    table = read(options.results, ("rounds",), {*NEEDED, "configuration"}, fields=True)["rounds"]
    several = in_rounds(table)
    at_once = table.filter(pc.greater_equal(table["round_size"], table["label_budget"]))
    whole_pool = at_once.to_pylist() if len(several) < len(table) else []
    made = table1(arms(several, options.by), whole_pool)
    if options.format == "markdown":
        print_markdown(made)
    else:
        print_table(made.title, made.columns, made.body, made.caption)


if __name__ == "__main__":
    given = tyro.cli(Table1Options, description=__doc__)
    sys.exit(guarded(lambda: work(given)))
