"""What a report says of the oracle, and where the time went."""

from __future__ import annotations

from typing import Any

from _report_page import Cell, Section, Table
from _report_source import Source, listed

PHASES = ("propose", "label", "append", "fit", "evaluate", "checkpoint")
SHOWN = 20  # reasons


def oracle(source: Source) -> Section:
    """What the oracle was asked, what caches answered, what it refused and why, and where the time went."""
    by = source.grouping or ["strategy"]
    calls = f"""
        select {listed(by)}, count(distinct experiment) as experiments, sum(oracle_calls)::bigint as calls,
          sum(oracle_calls - oracle_bought)::bigint as "cache hits", sum(refusals)::bigint as refused,
          sum(label_seconds) as seconds, sum(label_seconds) / nullif(sum(oracle_calls), 0) as "seconds a call"
        from rounds group by all order by all"""
    reasons = f"""
        select key as reason, sum(value::bigint)::bigint as images, count(distinct experiment) as experiments
        from rounds, json_each(refusal_reasons) group by all order by images desc, reason limit {SHOWN}"""
    sums = ", ".join(f"sum({phase}_seconds) as {phase}" for phase in PHASES)
    time = f"""
        select {sums}, (select sum(seconds) from (
          select max(generator_seconds) as seconds from rounds group by experiment, attempt)) as generator
        from rounds"""
    validation = source.one("select coalesce(sum(n_val_labels), 0)::bigint as n from trials")["n"]
    parts: list[Any] = [
        _table("Training labels", source.ask(calls)),
        *([people.told] if (people := source.pace) else ()),
        "Calls are images sent to the oracle, replacements of refused ones included; a cache hit is a call whose "
        f"label a cache had. Beside them {validation:,} validation labels were bought.",
    ]
    refused = source.ask(reasons)
    parts.append(_table("Refusals by reason", refused) if refused else "No image was refused.")
    seconds = {phase: value for phase, value in source.one(time).items() if value}
    whole = sum(seconds.values())
    names = {"generator": "generator, trained or waited for"}
    shares = [[names.get(p, p), s, Cell(f"{100 * s / whole:.1f} %", s)] for p, s in seconds.items()]
    parts.append(Table("Where the time of all experiments went", ["phase", "seconds", "share"], shares))
    commands = [source.query(sql) for sql in (calls, reasons, time)]
    return Section("oracle", "The oracle, and where the time went", parts, commands)


def _table(caption: str, rows: list[dict[str, Any]]) -> Table:
    return Table(caption, list(rows[0]), [list(row.values()) for row in rows])
