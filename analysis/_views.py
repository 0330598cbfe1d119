"""The views that SQL is asked of, those of records and `trials` and `sweeps`, and what each of their columns means."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from _shared import configuration_columns, stored

from alss_ray import reading, records, results
from alss_ray.places import Place

Meaning = tuple[str, str]  # unit, or '' for none; what it is

RECORDS = ("rounds", "curves", "paths", "generators", "failures", "labels")
VIEWS = (*RECORDS, "trials", "sweeps")
WHICH = ("val", "test")
WINDOW = "(partition by sweep, experiment order by t)"
REACHED = re.compile("(val|test)_labels_to_.*")
REACHED_TEXT = (
    "reaches that value, on straight lines between rounds; the first round's where it is there at once, null where "
    "it never is"
)
PHASES = ("propose", "label", "append", "fit", "evaluate")
SCORE, SECONDS, TIME = "the metric's own", "s", "UTC"
TRIALS: Mapping[str, tuple[str, str, str]] = {
    "t": ("max(t)", "rounds", "rounds done"),
    "n_labels": ("max(n_labels)", "labels", "training labels bought in all"),
    "n_val_labels": ("max(n_val_labels)", "labels", "validation labels bought beside n_labels"),
    "val_metric": ("arg_max_null(val_metric, t)", SCORE, "the metric on the validation set, last round"),
    "test_metric": ("arg_max_null(test_metric, t)", SCORE, "the metric on the test set, last round"),
    "val_aulc": (
        "arg_max_null(val_aulc, t)",
        SCORE,
        "AULC of the validation metric; searches optimise it",
    ),
    "test_aulc": (
        "arg_max_null(test_aulc, t)",
        SCORE,
        "AULC of the test metric: recorded, never optimised",
    ),
    "metric": ("any_value(metric)", "", "name of the metric"),
    "higher_is_better": ("any_value(higher_is_better)", "", "direction of the metric"),
    "oracle_calls": ("sum(oracle_calls)::bigint", "images", "images sent to the oracle for n_labels"),
    "oracle_bought": (
        "sum(oracle_bought)::bigint",
        "images",
        "those that no cache had: what the tool looked at",
    ),
    "refusals": ("sum(refusals)::bigint", "images", "images it refused"),
    "oracle_seconds": (
        "sum(label_seconds)",
        SECONDS,
        "time in the label phase: the oracle's, its caches' and the wait for it",
    ),
    "seconds": (
        f"sum({' + '.join(f'coalesce({phase}_seconds, 0)' for phase in PHASES)})",
        SECONDS,
        "time of all phases",
    ),
    "attempts": ("max(attempt) + 1", "attempts", "goes at the experiment up to its last row"),
    "finished": ("max(n_labels) >= any_value(label_budget)", "", "whether the label budget is spent"),
    "ended_at": ("max(recorded_at)", TIME, "when its last row was written"),
}
SWEEPS: Mapping[str, tuple[str, str, str]] = {
    "sweep": ("VARCHAR", "", "name of the results folder"),
    "folder": ("VARCHAR", "", "the results folder as it was given"),
    "kind": ("VARCHAR", "", "'sweep' or 'run', a single experiment; null where there is no manifest"),
    "script": ("VARCHAR", "", "name of the script"),
    "task": ("VARCHAR", "", "tasks, with commas where there are several"),
    "command": ("VARCHAR", "", "its command line"),
    "started_at": ("TIMESTAMPTZ", TIME, "when it was first started"),
    "ended_at": ("TIMESTAMPTZ", TIME, "when its last row was written"),
    "planned": (
        "BIGINT",
        "experiments",
        "experiments asked for; null for a search, whose number may be raised",
    ),
    "experiments": ("BIGINT", "experiments", "experiments that have a row"),
    "finished": ("BIGINT", "experiments", "those whose label budget is spent"),
    "attempts": ("BIGINT", "attempts", "goes at all experiments together"),
    "versions": ("VARCHAR", "", "JSON object: package -> version"),
    "git_commit": ("VARCHAR", "", "commit of the source tree, '+' where files differed from it"),
    "host": ("VARCHAR", "", "machine that started it"),
    "cpu": ("VARCHAR", "", "its processor"),
    "device": ("VARCHAR", "", "devices that trained, with commas where there are several"),
}
"""Column -> type, unit, meaning."""
FROM_RECORDS = ("task", "ended_at", "experiments", "finished", "attempts", "device")
LATENT = (
    "code_mean", "code_covariance", "code_mean_length", "code_sd_least", "code_sd_most", "energy_distance",
    "step_length", "typical_gap", "gradient_gap", "random_gap",
)  # fmt: skip
UNITS = {
    "t": "rounds",
    "n_labels": "labels",
    "n_new": "labels",
    "n_distinct": "labels",
    "class_balance": "share of 1",
    "n_val_labels": "labels",
    "round_size": "labels",
    "label_budget": "labels",
    "validation_size": "labels",
    "iteration": "iterations",
    "iterations": "iterations",
    "evaluate_every": "iterations",
    "new_error": "the metric's own",
    **dict.fromkeys(records.PROPOSAL_COUNTS, "proposals"),
    "already_labelled_share": "share of 1",
    "oracle_calls": "images",
    "oracle_bought": "images",
    "refusals": "images",
    "recorded_at": "UTC",
    "point_margin": "share of 1",
    "margin": "share of 1",
    "gradient_norm": "the loss's own a unit of latent space",
    "asked_at": TIME,
    "came_at": TIME,
    **dict.fromkeys(("position", "stepped", "gap", *LATENT), "latent space's own"),
    **dict.fromkeys(
        (
            "near_same_class",
            "near_by_chance",
            "gradient_left_share",
            "random_left_share",
            "gradient_stuck_share",
            "random_stuck_share",
            "energy_coefficient",
        ),
        "share of 1",
    ),
    **dict.fromkeys(("reconstruction_rmse", "mean_image_rmse"), "grey values, white = 1"),
    "decoded_agreement": "the metric's own",
    "near_count": "samples",
}
UNITS_BY_ENDING = {
    "_metric": SCORE,
    "_guess": SCORE,
    "_aulc": SCORE,
    "_loss": "the loss's own",
    "_seconds": SECONDS,
}


def describe(database: duckdb.DuckDBPyConnection) -> pa.Table:
    """Every column of the views: table, column, type, unit ('' for none, or for one that the task decides), meaning."""
    common = {"sweep": ("", "name of the results folder")}
    columns = {**{kind: records.KINDS[kind] for kind in RECORDS}, "trials": records.IDENTITY}
    rows = []
    for view in VIEWS:
        derived = {"trials": TRIALS, "sweeps": SWEEPS}.get(view, {})
        meanings = common | {name: (_unit(name), text) for name, _, text in columns.get(view, ())}
        meanings |= {name: (unit, text) for name, (_, unit, text) in derived.items()}
        for name, type_, *_ in database.execute(f"describe {view}").fetchall():
            if (reached := REACHED.fullmatch(name)) and view == "trials":
                meaning = ("labels", f"first number of labels at which {reached[1]}_metric {REACHED_TEXT}")
            else:
                extra = (
                    "a further test score of the task"
                    if name.startswith("test_")
                    else "field of the configuration"
                )
                meaning = meanings.get(name, (_unit(name), extra))
            rows.append((view, name, type_, *meaning))
    return pa.table(
        dict(zip(("table", "column", "type", "unit", "meaning"), zip(*rows, strict=True), strict=True))
    )


def _unit(name: str) -> str:
    endings = (unit for ending, unit in UNITS_BY_ENDING.items() if name.endswith(ending))
    return UNITS.get(name) or next(endings, "")


def open_views(
    folders: Sequence[str | Path | Place], targets: Sequence[Decimal] = ()
) -> duckdb.DuckDBPyConnection:
    """A database in memory with the views, closed to files, settings, Python's variables and writing.

    Compacted records stay on disk: an answer reads the columns that it needs, through Arrow.

    Args:
        targets: values of the metric; `trials` then tells how many labels each takes.

    Raises:
        UsageError: as `stored` does.
    """
    found = stored(folders, RECORDS)
    database = duckdb.connect(
        ":memory:",
        config={"enable_external_access": False, "python_enable_replacements": False, "temp_directory": ""},
    )
    database.execute("set TimeZone = 'UTC'")
    database.execute("set enable_progress_bar = false")  # it would stand amid the answer
    rounds = reading.unified(found["rounds"])
    configuration = sorted(configuration_columns(rounds.empty_table()))
    for kind, parts in found.items():
        _create_records(database, kind, parts, rounds, configuration)
    _create_trials(database, configuration, targets)
    _create_sweeps(database, found["rounds"])
    database.execute("set lock_configuration = true")
    return database


def _create_records(
    database: duckdb.DuckDBPyConnection,
    kind: str,
    parts: Sequence[reading.Stored],
    rounds: pa.Schema,
    configuration: Sequence[str],
) -> None:
    """The view of a kind over what each folder holds of it; all configurations' columns are in it."""
    sources: list[Any] = [part.compacted for part in parts if part.compacted is not None]
    sources += [part.loose for part in parts if len(part.loose) or not sources]
    missing = set(configuration) - set(reading.unified(parts).names)  # no curve was recorded, say
    if missing:
        sources.append(pa.schema([rounds.field(name) for name in sorted(missing)]).empty_table())
    for k, source in enumerate(sources):
        database.register(f"_{kind}_{k}", source)
    union = " union all by name ".join(f"select * from _{kind}_{k}" for k in range(len(sources)))
    # In an order that does not depend on which files the rows come from.
    fixed = ["sweep", *(name for name, _, _ in records.IDENTITY), *configuration]
    fixed += [name for name, _, _ in records.KINDS[kind] if name not in fixed]
    extras = sorted(set(reading.unified(parts).names) - set(fixed))
    columns = ", ".join(map(_quoted, [*fixed, *extras]))
    database.execute(f"create view {kind} as select {columns} from ({union})")


def _create_trials(
    database: duckdb.DuckDBPyConnection, configuration: Sequence[str], targets: Sequence[Decimal]
) -> None:
    columns = [f"any_value({_quoted(name)}) as {_quoted(name)}" for name in ("configuration", *configuration)]
    columns += [f"{expression} as {name}" for name, (expression, _, _) in TRIALS.items()]
    source = "rounds"
    if targets:
        columns += [f"{_reached(which, v)} as {target_column(which, v)}" for which in WHICH for v in targets]
        source = f"(select *, {', '.join(map(_lagged, WHICH))} from rounds window w as {WINDOW})"
    database.execute(
        f"create view trials as select sweep, experiment, {', '.join(columns)} from {source} "
        "group by sweep, experiment"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def target_column(which: str, target: Decimal) -> str:
    """'test_labels_to_0_9': the column's name for a target, which needs no quotes in SQL."""
    return f"{which}_labels_to_{format(target, 'f').replace('-', 'minus_').replace('.', '_')}"


def _lagged(which: str) -> str:
    """The round before that has a finite metric: its labels and its metric."""
    finite = f"isfinite({which}_metric)"
    return (
        f"lag(case when {finite} then n_labels end ignore nulls) over w as _{which}_labels, "
        f"lag(case when {finite} then {which}_metric end ignore nulls) over w as _{which}_before"
    )


def _reached(which: str, target: Decimal) -> str:
    """SQL: the first number of labels at which the metric is there, on straight lines between rounds."""
    metric, before, value = f"{which}_metric", f"_{which}_before", f"{target}::double"
    there = f"case higher_is_better when true then {{0}} >= {value} when false then {{0}} <= {value} end"
    share = f"({value} - {before}) / ({metric} - {before})"
    return (
        f"min(case when isfinite({metric}) and {there.format(metric)} then "
        f"case when {before} is null then n_labels::double "
        f"when not ({there.format(before)}) then _{which}_labels + (n_labels - _{which}_labels) * {share} end end)"
    )


def _create_sweeps(database: duckdb.DuckDBPyConnection, parts: Sequence[reading.Stored]) -> None:
    rows = [_manifest(part.sweep, part.folder) for part in parts]
    names = [name for name in SWEEPS if name not in FROM_RECORDS]
    database.register(
        "_manifests",
        pa.table({name: pa.array([row.get(name) for row in rows], _arrow(name)) for name in names}),
    )
    columns = [f"{name}::{type_} as {name}" for name, (type_, _, _) in SWEEPS.items()]
    database.execute(
        f"""create view sweeps as select {", ".join(columns)} from _manifests left join (
            select sweep, string_agg(distinct task, ', ' order by task) as task, max(ended_at) as ended_at,
                count(*) as experiments, count(*) filter (finished) as finished, sum(attempts) as attempts
            from trials group by sweep) using (sweep) left join (
            select sweep, string_agg(distinct device, ', ' order by device) as device from rounds group by sweep
            ) using (sweep)"""
    )


def _arrow(name: str) -> pa.DataType:
    return pa.int64() if SWEEPS[name][0] == "BIGINT" else pa.string()


def _manifest(sweep: str, folder: Place) -> dict[str, Any]:
    """What a folder's manifest tells; says on stderr where it is damaged."""
    row: dict[str, Any] = {"sweep": sweep, "folder": str(folder)}
    try:
        about = json.loads((folder / results.MANIFEST).read())
        asked = about["asked"]
        return row | {
            "kind": asked["kind"],
            "script": asked["name"] if asked["kind"] == "sweep" else None,
            "command": shlex.join(about["command"]),
            "started_at": about["started_at"],
            "planned": 1 if asked["kind"] == "run" else len(asked.get("experiments", ())) or None,
            "versions": json.dumps(about["versions"]),
            **{name: about[name] for name in ("git_commit", "host", "cpu")},
        }
    except FileNotFoundError:
        return row
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{folder / results.MANIFEST} is damaged and was left out ({error!r}).", file=sys.stderr)
        return row
