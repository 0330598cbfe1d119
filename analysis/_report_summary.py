"""The head of a report: what it comes to, and what to run next."""

from __future__ import annotations

import shlex
from typing import Any

from _inference import seeds_needed
from _paired import Comparison
from _report_page import Note, Section
from _report_results import best_sql
from _report_run import completeness, option, resume, with_option
from _report_source import Source

CONFIRMED = 3  # of the best configurations


def title(source: Source) -> str:
    """What the page is about."""
    task = ", ".join(row["task"] for row in source.ask("select distinct task from rounds order by all"))
    name = "One experiment" if source.asked.get("kind") == "run" else source.asked.get("name", "Experiments")
    return f"{name} on {task}"


def subtitle(source: Source) -> str:
    """How much of it there is, and as of when."""
    last = source.one("select max(recorded_at) as at from rounds")["at"]
    done, total, _ = completeness(source)
    return f"{done:,} of {total:,} experiments finished; records until {last:%Y-%m-%d %H:%M} UTC."


def summary(source: Source, found: Comparison | str) -> Section:
    """The verdict, the best configuration, what is amiss, and the commands to run next."""
    parts: list[Any] = [] if isinstance(found, str) else [Note(found.verdict, "verdict")]
    for row in source.ask(best_sql(source))[:1]:
        of = f"Best of {source.compared:,} configurations by validation AULC: " if source.compared > 1 else ""
        aulc = source.spread(row["val_aulc"], row["val_aulc_sd"])
        metric = source.spread(row["test_metric"], row["test_metric_sd"])
        many = f"mean ± standard deviation over {row['seeds']} seeds"
        parts.append(
            f"{of}{source.named(row)}. AULC{source.unit} {aulc and aulc.text}; at {source.budget:,} labels test "
            f"{source.metric}{source.unit} {metric and metric.text} "
            f"({many if row['seeds'] > 1 else 'one seed, so its spread is not known'})."
        )
    done, total, _ = completeness(source)
    if done < total:
        parts.append(
            Note(f"{total - done:,} of {total:,} experiments have not spent their label budgets.", "warning")
        )
    if source.problems:
        parts.append(Note("Some records could not be read: see 'Failures and resumes'.", "warning"))
    following = [step for step in (_resume(source), _confirm(source), _more_seeds(source, found)) if step]
    parts += [f"Next: {why}" for why, _ in following]
    return Section("summary", "In short", parts, [line for _, line in following], unfolded=True)


def _resume(source: Source) -> tuple[str, str] | None:
    done, total, _ = completeness(source)
    words = resume(source)
    return ("what is unfinished.", shlex.join(words)) if words and done < total else None


def _confirm(source: Source) -> tuple[str, str] | None:
    """After a search: its best configurations and random selection on fresh seeds, which did not choose them."""
    words = resume(source)
    if not words or not source.searching or source.confirmed or not source.compared:
        return None
    words = with_option(words, "--confirm", str(CONFIRMED))
    return f"the best {CONFIRMED} again on fresh seeds, beside random selection.", shlex.join(words)


def _more_seeds(source: Source, found: Comparison | str) -> tuple[str, str] | None:
    """After a comparison that so few seeds cannot decide."""
    words = source.command
    if isinstance(found, str) or option(words, "--seeds") is None:
        return None
    needed = seeds_needed(len(found.arms))
    if needed <= min(len(arm.seeds) for arm in found.arms):
        return None
    for name in ("--results", "--resume"):
        words = with_option(words, name, None)
    line = shlex.join(with_option(words, "--seeds", str(needed)))
    return f"{needed} seeds, the fewest with which a difference between so many arms can be shown.", line
