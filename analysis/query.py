"""Ask the records of sweeps and single runs in SQL (DuckDB), read-only.

Tables: `rounds` (one row a round of an experiment), `curves` (one row an evaluation inside a round), `paths` (one row
a followed point and round), `failures` (one row a round in which an experiment could not go on), `trials` (one row an
experiment) and `sweeps` (one row a results folder). `--describe` lists their columns with units.
Results folders may lie on an object store (s3://bucket/path).

python analysis/query.py RESULTS "select strategy, t, avg(test_metric) from rounds group by all order by all"

python analysis/query.py RESULTS "from trials order by val_aulc desc limit 10"

python analysis/query.py RESULTS "select seed, test_labels_to_0_95 from trials" --targets 0.9,0.95

python analysis/query.py RESULTS "from rounds" --format parquet --out rounds.parquet

python analysis/query.py RESULTS --describe
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

import duckdb
import pyarrow as pa
import tyro
from _shared import counted, guarded
from _tables import print_as, write
from _views import VIEWS, describe, open_views

from alss_ray.config import UsageError
from alss_ray.places import Place

_TABLES = f"{', '.join(VIEWS[:-1])} and {VIEWS[-1]}"

SAFE_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})


@dataclass(frozen=True)
class QueryOptions:
    """What to ask, and how to print the answer."""

    words: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar='RESULTS... "SQL"', help_behavior_hint=""),
    ]
    """Results folders, and behind them one SELECT statement in quotes (none with --describe)."""
    format: Literal["table", "csv", "json", "parquet"] = "table"
    """table for reading; csv (with a header), json (a list of objects) or parquet in full precision."""
    out: str | None = None
    """File for the answer, here or under an s3:// URI, replaced at once; parquet needs one."""
    targets: str | None = None
    """Values of the metric, as 0.9,0.95: `trials` then has the labels that each takes, test_labels_to_0_9 and so on."""
    rows: int = 200
    """Rows that a table shows at most, 0 for all; it says so where it leaves rows out. The others show all."""
    describe: bool = False
    """List every column of the tables with its type, unit and meaning instead of answering."""


def answer(database: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The rows that one SELECT statement gives.

    Raises:
        UsageError: SQL that is wrong, or does anything but read the tables.
    """
    try:
        check(database, sql)
        database.execute("begin transaction read only")
        try:
            return database.sql(sql).to_arrow_table()
        finally:
            database.execute("rollback")
    except duckdb.Error as error:
        raise UsageError(_sentence(error)) from error


def check(database: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise UsageError unless the SQL is one SELECT statement that calls for nothing beside the tables."""
    statements = database.extract_statements(sql)
    if not statements:
        raise UsageError("The SQL is empty; give one SELECT statement.")
    if len(statements) > 1:
        raise UsageError(f"The SQL holds {len(statements)} statements; give one SELECT statement.")
    kind = statements[0].type.name
    if kind == "MULTI":
        raise UsageError("A PIVOT must name its columns here: PIVOT ... ON strategy IN ('random', 'snn') ...")
    if kind != "SELECT":
        raise UsageError(f"Records are only read: {kind} is refused; give one SELECT statement.")
    tree = json.loads(database.execute("select json_serialize_sql(?)", [sql]).fetchall()[0][0])
    for node in _nodes(tree):
        kind = str(node.get("type", ""))
        if kind in ("INSERT_QUERY_NODE", "UPDATE_QUERY_NODE", "DELETE_QUERY_NODE", "MERGE_QUERY_NODE"):
            raise UsageError(f"Records are only read: {kind.split('_')[0]} is refused.")
        if (
            kind == "TABLE_FUNCTION"
            and (name := node["function"]["function_name"]) not in SAFE_TABLE_FUNCTIONS
        ):
            raise UsageError(f"{name}() is refused: SQL here reads the tables {_TABLES} only.")


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(part)


def _sentence(error: duckdb.Error) -> str:
    """DuckDB's message as one sentence: without its quotation of the SQL and its list of overloads."""
    text = str(error).split("\n\nLINE ")[0].split("\n\tCandidate functions")[0]
    reason = " ".join(text.split(": ", 1)[-1].split()).rstrip(".!")
    if reason.startswith("Table with name"):
        missing = reason.removeprefix("Table with name ").split(" does not exist")[0]
        return f"There is no table {missing}; the tables are {_TABLES}."
    if isinstance(error, duckdb.PermissionException):
        return f"SQL here reads the tables {_TABLES} only: {reason}."
    return f"The SQL cannot be answered: {reason.replace('! ', '; ').replace('. ', '; ')}."


def what_is_missing(database: duckdb.DuckDBPyConnection) -> list[str]:
    """A sentence for each sweep with experiments that have not spent their budget, or have no row yet."""
    counts = database.execute(
        "select sweep, planned, count(distinct experiment), count(*) filter (n_labels >= label_budget) "
        "from rounds join _manifests using (sweep) group by all order by sweep"
    )
    sentences = []
    for sweep, planned, begun, finished in counts.fetchall():
        texts = []
        if finished < begun:
            texts.append(
                f"{begun - finished:,} of {counted(begun, 'experiment')} below the label budget "
                "(still at work, stopped early or failed)"
            )
        if planned is not None and begun < planned:
            texts.append(f"{planned - begun:,} of {planned:,} planned experiments without a row")
        if texts:
            sentences.append(f"{sweep}: {', '.join(texts)}.")
    return sentences


def parsed_targets(text: str | None) -> list[Decimal]:
    """The values of --targets; raises UsageError for what is no number."""
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    try:
        values = [Decimal(word) for word in words]
    except InvalidOperation as error:
        raise UsageError(f"--targets is {text!r}; give numbers, as in 0.9,0.95.") from error
    if not all(value.is_finite() for value in values):
        raise UsageError(f"--targets is {text!r}; give finite numbers, as in 0.9,0.95.")
    return list(dict.fromkeys(values))


def query(options: QueryOptions) -> None:
    """Read the records, ask, print."""
    folders, sql = list(options.words), ""
    if not options.describe:
        if len(folders) < 2 or "://" in folders[-1] or os.path.isdir(folders[-1]):
            raise UsageError("Give the results folders and, behind them, the SQL in quotes (or --describe).")
        sql = folders.pop()
    if options.rows < 0:
        raise UsageError(f"--rows is {options.rows}; give 0 (for all) or more.")
    if options.format == "parquet" and options.out is None:
        raise UsageError("--format parquet needs a file; add --out FILE.")
    targets = parsed_targets(options.targets)
    try:
        database = open_views(folders, targets)
        table = describe(database) if options.describe else answer(database, sql)
        missing = what_is_missing(database)
    except duckdb.Error as error:
        raise UsageError(f"DuckDB cannot take these records: {str(error).splitlines()[0]}.") from error
    if options.out is not None:
        write(table, Place(options.out), options.format)
        print(options.out)
    else:
        print_as(table, options.format, 0 if options.describe else options.rows)
    for sentence in missing:
        print(sentence, file=sys.stderr)


if __name__ == "__main__":
    given = tyro.cli(QueryOptions, description=__doc__)
    sys.exit(guarded(lambda: query(given)))
