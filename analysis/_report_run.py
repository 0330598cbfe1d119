"""What a report says of the work itself: what was run and on what, what failed, what was resumed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from _lines import FEW
from _report_page import Note, Section, Table
from _report_source import Source, listed, quoted
from _shared import counted

from alss_ray.display import shown

SHOWN = 20  # experiments in a table of those that need a look
FAILED = "select experiment, arg_max(failure, recorded_at) as failure from failures group by experiment"
COLUMNS = {
    "task": "task",
    "data (hash)": "data_hash",
    "metric": "metric",
    "network's parameters": "parameters",
    "generator (hash)": "generator_key",
    "commit": "git_commit",
    "machine": "host",
    "processor": "cpu",
    "device": "device",
    "threads": "threads",
}


def run(source: Source) -> Section:
    """What was run, on what: the command, its identity, versions and hardware, the settings all experiments share."""
    told = source.one(
        "select count(distinct experiment) as experiments, count(distinct configuration) as configurations, "
        "count(distinct seed) as seeds, count(*) as rounds, min(recorded_at) as first, max(recorded_at) as last "
        "from rounds"
    )
    counts = [counted(told[f"{noun}s"], noun) for noun in ("configuration", "seed", "round")]
    rows = [
        ["command", shlex.join(source.command) or "not known: the folder has no readable manifest.json"],
        ["started", source.manifest.get("started_at")],
        ["records", f"{told['first']:%Y-%m-%d %H:%M} to {told['last']:%Y-%m-%d %H:%M} UTC"],
        ["experiments", f"{told['experiments']:,}: {', '.join(counts)}"],
        *([heading, _values(source, column)] for heading, column in COLUMNS.items()),
    ]
    for row in source.ask("select versions from rounds group by all order by count(*) desc"):
        packages = json.loads(row["versions"] or "{}")
        rows.append(["versions", ", ".join(f"{name} {version}" for name, version in packages.items())])
    if told["experiments"] == 1:
        rows.append(["experiment (hash)", _values(source, "experiment")])
    same = ", ".join(f"any_value({quoted(name)}) as {quoted(name)}" for name in source.fields)
    fixed = source.one(f"select {same} from trials where label_budget = {source.budget}")
    settings = [
        [name, shown(fixed[name])] for name in fixed if name not in source.varied and fixed[name] is not None
    ]
    sql = f"select distinct {listed(list(COLUMNS.values()))}, versions from rounds"
    parts = [
        Table("The work", ["what", "value"], [row for row in rows if row[1]], sortable=False),
        Table("Settings that all share", ["field", "value"], settings, folded=True, sortable=False),
    ]
    return Section("run", "What was run, and on what", parts, [source.query(sql)])


def option(words: Sequence[str], name: str) -> int | None:
    """Where an option stands on a command line."""
    return next((k for k, word in enumerate(words) if word.partition("=")[0] == name), None)


def with_option(words: Sequence[str], name: str, value: str | None) -> list[str]:
    """A command line with an option's value put in the place of what it has; None takes the option away."""
    words, at = list(words), option(words, name)
    if at is not None:
        bare = "=" not in words[at] and at + 1 < len(words) and not words[at + 1].startswith("--")
        del words[at : at + 1 + bare]
    return words if value is None else [*words, name, value]


def completeness(source: Source) -> tuple[int, int, list[str]]:
    """How many experiments have come to their end, of how many, and which have no record at all."""
    recorded = source.one(f"select count(*) as n, count(*) filter ({source.ended}) as ended from trials")
    asked = source.asked.get("experiments", {})
    known = {row["experiment"] for row in source.ask("select experiment from trials")} if asked else set()
    missing = sorted(asked.keys() - known)
    return recorded["ended"], recorded["n"] + len(missing), missing


def resume(source: Source) -> list[str]:
    """The command that goes on with the work; none where the manifest does not tell how it was started."""
    if not source.command:
        return []
    words = with_option(source.command, "--resume", None)
    place = "--out" if "-m" in words else "--results"
    return [*with_option(words, place, str(source.folder)), "--resume"]


def _values(source: Source, column: str) -> str:
    """A column's values: one, or several with the number of experiments that have each."""
    rows = source.ask(
        f'select "{column}" as value, count(distinct experiment) as n from rounds where "{column}" is not null '
        f"group by all order by n desc, value limit {FEW + 1}"
    )
    values = [
        shown(row["value"]) if len(rows) == 1 else f"{row['value']} ({counted(row['n'], 'experiment')})"
        for row in rows
    ]
    return "; ".join([*values[:FEW], *(["and others"] if len(values) > FEW else [])])


def failures(source: Source) -> Section:
    """What is missing, what was resumed, and what could not be read."""
    parts: list[Any] = []
    done, total, missing = completeness(source)
    asked = source.asked.get("experiments", {})
    unfinished = f"""
        select experiment, {listed(source.varied)}, seed, t as rounds, n_labels, label_budget, attempts, failure
        from trials left join ({FAILED}) using (experiment) where not {source.ended} order by all limit {SHOWN}"""
    resumed = f"""
        select experiment, {listed(source.varied)}, seed, attempts, t as rounds, finished
        from trials where attempts > 1 order by attempts desc, experiment limit {SHOWN}"""
    if done == total:
        parts.append("Every experiment has come to its end.")
    else:
        parts.append(
            Note(f"{total - done:,} of {total:,} experiments have not spent their label budgets.", "warning")
        )
        if rows := source.ask(unfinished):
            parts.append(_table("Unfinished experiments", rows, total - done - len(missing)))
        if missing:
            why = {row["experiment"]: row["failure"] for row in source.ask(FAILED)}
            body = [
                [name, source.named(asked[name]), asked[name].get("seed"), why.get(name)]
                for name in missing[:SHOWN]
            ]
            caption = f"Experiments without a finished round: {len(body)} of {len(missing):,}"
            parts.append(Table(caption, ["experiment", "configuration", "seed", "failure"], body))
    stopped = source.one(f"select count(*) as n from trials where {source.ended} and not finished")["n"]
    if stopped:
        parts.append(
            f"{counted(stopped, 'experiment')} ended before the label budget, at or above the first rung of early "
            "stopping: stopped by it, or interrupted there."
        )
    count = source.one("select count(*) as n from trials where attempts > 1")["n"]
    if count:
        parts.append(
            f"{counted(count, 'experiment')} had more than one attempt: interrupted, then resumed to the same result."
        )
        parts.append(_table("Resumed experiments", source.ask(resumed), count))
    else:
        parts.append("No experiment was resumed.")
    parts += [Note(problem, "warning") for problem in source.problems]
    commands = [source.query(sql) for sql in (unfinished, resumed)]
    return Section(
        "failures",
        "Failures and resumes",
        parts,
        [*filter(None, [resume(source) if done < total else ""]), *commands],
    )


def _table(caption: str, rows: list[dict[str, Any]], total: int) -> Table:
    said = f": {len(rows)} of {total:,}" if total > len(rows) else ""
    return Table(
        caption + said, [name.replace("_", " ") for name in rows[0]], [list(row.values()) for row in rows]
    )
