"""Ask the records of sweeps and single runs in SQL (DuckDB), read-only.

Tables: `rounds` (one row a round of an experiment), `curves` (one row an evaluation inside a round) and
`trials` (one row an experiment). `--describe` lists their columns. Metrics are as the task states them (an
accuracy is a share of 1), times are seconds, sizes are numbers of labels or images.

python analysis/query.py RESULTS "select strategy, t, avg(test_metric) from rounds group by all order by all"

python analysis/query.py RESULTS "from trials order by val_aulc desc limit 10"

python analysis/query.py RESULTS --describe
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import duckdb
import pyarrow as pa
import tyro
from _shared import configuration_columns, guarded, read
from _tables import print_csv, print_json, print_table

from alss_ray import records
from alss_ray.config import UsageError

PHASES = ("propose", "label", "append", "fit", "evaluate")
TRIALS = (
    ("t", "max(t)", "rounds done"),
    ("n_labels", "max(n_labels)", "training labels bought in all"),
    ("n_val_labels", "max(n_val_labels)", "validation labels bought beside n_labels"),
    ("val_metric", "last(val_metric order by t)", "the task's metric on the validation set, last round"),
    ("test_metric", "last(test_metric order by t)", "the metric on the test set, last round"),
    ("val_aulc", "last(val_aulc order by t)", "AULC of the validation metric; searches optimise it"),
    ("test_aulc", "last(test_aulc order by t)", "AULC of the test metric: recorded, never optimised"),
    ("oracle_calls", "sum(oracle_calls)::bigint", "images sent to the oracle for n_labels"),
    ("refusals", "sum(refusals)::bigint", "images it refused"),
    ("seconds", f"sum({' + '.join(f'coalesce({p}_seconds, 0)' for p in PHASES)})", "seconds of all phases"),
    ("attempts", "max(attempt) + 1", "goes at the experiment up to its last row"),
    ("finished", "max(n_labels) >= any_value(label_budget)", "whether the label budget is spent"),
)
SAFE_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})


@dataclass(frozen=True)
class QueryOptions:
    """What to ask, and how to print the answer."""

    words: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar='RESULTS... "SQL"', help_behavior_hint=""),
    ]
    """Results folders, and behind them one SELECT statement in quotes (none with --describe)."""
    format: Literal["table", "csv", "json"] = "table"
    """How to print: table for reading, csv (with a header) or json (a list of objects) in full precision."""
    rows: int = 200
    """Rows that a table shows at most, 0 for all; it says so where it leaves rows out. csv and json show all."""
    describe: bool = False
    """List every column of the three tables with its type and meaning instead of answering."""


def open_records(folders: Sequence[Path]) -> duckdb.DuckDBPyConnection:
    """A database in memory with the three tables, closed to files, settings, Python's variables and writing.

    Raises:
        UsageError: as `read` does.
    """
    tables = read(folders, ("rounds", "curves"))
    configuration = configuration_columns(tables["rounds"])
    for name in set(configuration) - set(tables["curves"].column_names):  # no curve was recorded, say
        field = tables["rounds"].schema.field(name)
        tables["curves"] = tables["curves"].append_column(field, pa.nulls(len(tables["curves"]), field.type))
    database = duckdb.connect(
        ":memory:",
        config={"enable_external_access": False, "python_enable_replacements": False, "temp_directory": ""},
    )
    for name, table in tables.items():
        database.register("arrow", table)
        database.execute(f"create table {name} as select * from arrow")
        database.unregister("arrow")
    fixed = ["any_value({0}) as {0}".format('"' + name.replace('"', '""') + '"') for name in configuration]
    made = [f"{expression} as {name}" for name, expression, _ in TRIALS]
    keys = "sweep, experiment, configuration"
    columns = ", ".join([keys, *fixed, *made])
    database.execute(f"create table trials as select {columns} from rounds group by {keys} order by {keys}")
    database.execute("set TimeZone = 'UTC'")
    database.execute("set lock_configuration = true")
    return database


def answer(database: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The rows that one SELECT statement gives.

    Raises:
        UsageError: SQL that is wrong, or does anything but read the three tables.
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
            raise UsageError(
                f"{name}() is refused: SQL here reads the tables rounds, curves and trials only."
            )


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
        return f"There is no table {missing}; the tables are rounds, curves and trials."
    if isinstance(error, duckdb.PermissionException):
        return f"SQL here reads the tables rounds, curves and trials only: {reason}."
    return f"The SQL cannot be answered: {reason.replace('! ', '; ').replace('. ', '; ')}."


def describe(database: duckdb.DuckDBPyConnection) -> pa.Table:
    """Every column of the three tables: table, column, type and meaning."""
    common = {"sweep": "name of the results folder"}
    meanings = {
        "rounds": common | {name: text for name, _, text in records.COLUMNS},
        "curves": common | {name: text for name, _, text in records.CURVE_COLUMNS},
        "trials": common | {name: text for name, _, text in (*records.IDENTITY, *TRIALS)},
    }
    found = database.execute(
        "select table_name, column_name, data_type from duckdb_columns() where not internal "
        "order by table_name, column_index"
    ).fetchall()
    found.sort(key=lambda row: tuple(meanings).index(row[0]))
    rows = [(*row, meanings[row[0]].get(row[1], "field of the configuration")) for row in found]
    return pa.table(dict(zip(("table", "column", "type", "meaning"), zip(*rows, strict=True), strict=True)))


def query(options: QueryOptions) -> None:
    """Read the records, ask, print."""
    folders, sql = list(options.words), ""
    if not options.describe:
        if len(folders) < 2 or Path(folders[-1]).is_dir():
            raise UsageError("Give the results folders and, behind them, the SQL in quotes (or --describe).")
        sql = folders.pop()
    if options.rows < 0:
        raise UsageError(f"--rows is {options.rows}; give 0 (for all) or more.")
    try:
        database = open_records([Path(folder) for folder in folders])
    except duckdb.Error as error:
        raise UsageError(f"DuckDB cannot take these records: {str(error).splitlines()[0]}.") from error
    table = describe(database) if options.describe else answer(database, sql)
    if options.format == "table":
        print_table(table, 0 if options.describe else options.rows)
    else:
        {"csv": print_csv, "json": print_json}[options.format](table)


if __name__ == "__main__":
    given = tyro.cli(QueryOptions, description=__doc__)
    sys.exit(guarded(lambda: query(given)))
