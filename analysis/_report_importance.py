"""The importance of the searched parameters in a report, and how the objective lies over each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from _report_charts import Axes, Series, bars, xy
from _report_page import Chart, Note, Section, Table
from _report_source import Source
from _shared import counted

from alss_ray.config import UsageError
from alss_ray.display import brief
from alss_ray.results import STUDY

TITLE = "Importance of the parameters"
MOST_TRIALS = 2_000
"""A study of more is left to importance.py: reading it and growing a forest takes longer than a page should."""
DRAWN = 400  # trials of a slice


def importance(source: Source) -> Section:
    """fANOVA and PED-ANOVA of the search, with a slice for each parameter."""
    commands = [source.script("importance.py")]
    if not source.searching and not (source.folder / STUDY).exists():
        return Section("importance", TITLE, ["Nothing was searched, so there is no importance to tell."])
    if source.configurations > MOST_TRIALS:
        return Section(
            "importance", TITLE, [f"Not told here, as there are more than {MOST_TRIALS:,} trials."], commands
        )
    from _importance import assess, read_trials  # Optuna and its forests: only where something was searched

    try:
        trials = read_trials(source.folder)
        found = assess(trials)
    except UsageError as error:
        return Section("importance", TITLE, [str(error)], commands)
    states = [f"{n} {state}" for state, n in trials.others.items()]
    parts: list[Any] = [
        f"From {counted(len(trials.values), 'trial')} of the study {trials.study}, objective {trials.objective}"
        + (f"; beside them {', '.join(states)}." if states else "."),
        *(Note(text, "warning") for text in found.warnings),
    ]
    methods = {"fANOVA": found.fanova, "PED-ANOVA": found.ped_anova}
    names = sorted(found.ped_anova, key=lambda name: -found.fanova.get(name, 0.0))
    series = [
        Series(method, [{"y": name, "x": shares.get(name, 0.0)} for name in names])
        for method, shares in methods.items()
    ]
    caption = "Share of the importance: for the variance over the space (fANOVA), for being among the best (PED-ANOVA)"
    told = "; ".join(
        f"{name} {found.fanova.get(name, 0.0):.2f} and {found.ped_anova[name]:.2f}" for name in names
    )
    parts.append(bars("importance-chart", caption, f"{caption}. {told}.", series, Axes("share", "parameter")))
    body = [[name, *(shares.get(name) for shares in methods.values())] for name in names]
    parts.append(Table("The shares", ["parameter", *methods], body, folded=True))
    parts.append(
        f"A random forest explains {max(0.0, found.explained):.0%} of the variance of trials it has not seen: the "
        "shares can be believed as far as that goes."
    )
    parts += [_slice(trials, name) for name in names if name in trials.shared]
    return Section("importance", TITLE, parts, commands)


def _slice(trials: Any, name: str) -> Chart:
    """The objective of each trial over one parameter."""
    kept = (
        np.unique(np.linspace(0, len(trials.values) - 1, DRAWN).astype(int))
        if len(trials.values) > DRAWN
        else None
    )
    chosen = range(len(trials.values)) if kept is None else {*kept.tolist(), trials.best}
    number = all(isinstance(point[name], int | float) for point in trials.points)
    rows = [
        {"x": float(trials.points[k][name]) if number else trials.points[k][name], "y": float(trials.values[k]),
         "trial": brief(trials.points[k])}
        for k in chosen if k != trials.best
    ]  # fmt: skip
    best = trials.points[trials.best]
    top = [{"x": best[name], "y": float(trials.values[trials.best]), "trial": brief(best)}]
    caption = f"Each trial's {trials.objective} over {name}"
    return xy(
        f"slice-{name}-chart",
        caption,
        f"{caption}. The best, {top[0]['y']:.4g}, is at {best[name]}.",
        [Series("trials", rows, "points"), Series("best trial", top, "points", place=3)],
        Axes(
            name,
            trials.objective,
            log_x=bool(getattr(trials.distributions[name], "log", False)),
            words_x=not number,
            tips=("trial",),
        ),
    )
