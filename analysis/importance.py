"""Which searched parameters matter (α, n, J): fANOVA and PED-ANOVA, slices and the contour of two parameters.

fANOVA says how much of the objective's variance over the whole search space a parameter explains by itself; PED-ANOVA
says how much it matters for being among the best tenth. Shares are of all parameters' sum, so they do not say that any
of them matters: that is what the explained variance is for. Reads the Optuna study of a search, and never writes to it.

python analysis/importance.py RESULTS

python analysis/importance.py RESULTS --contour alpha,round_size --out figures/importance
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import matplotlib
import numpy as np
import tyro
from _figures import save, stem
from _importance import Importance, Trials, assess, read_trials, surface
from _shared import guarded, nearest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from alss_ray.config import UsageError
from alss_ray.display import print_table, shown
from alss_ray.places import Place

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullFormatter, ScalarFormatter

SIGNS = {"alpha": "step size α", "latent_dim": "latent dimension n", "round_size": "round size J"}
METHODS = (("fANOVA", "#0072B2", ""), ("PED-ANOVA", "#E69F00", "////"))  # colours of Okabe and Ito
SHADES = "cividis"  # its lightness alone tells the order
STEPS = 40  # points of the contour along each axis


@dataclass(frozen=True)
class ImportanceOptions:
    """Whose parameters, and where the picture goes."""

    results: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RESULTS", help_behavior_hint="")]
    """Results folder of a search."""
    study: str | None = None
    """Name of the study where study.db holds several."""
    contour: Annotated[str | None, tyro.conf.arg(metavar="PARAMETER,PARAMETER")] = None
    """The two parameters of the contour; α and n where both were searched, else the two of the largest fANOVA share."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER_OR_STEM")] = None
    """Folder for importance.png and importance.svg, or a path to which .png and .svg are added; the results folder
    unless given."""
    format: Literal["text", "json"] = "text"
    """How the shares are printed; json for machines."""


def figure(found: Importance, pair: tuple[str, str] | None) -> Figure:
    """The shares, a slice for each parameter, and the contour of a pair if there is one."""
    names = list(found.fanova)
    panels = 1 + len(names) + (pair is not None)
    columns = min(panels, 3)
    rows = -(-panels // columns)
    drawn, axes = plt.subplots(
        rows, columns, figsize=(4.3 * columns, 3.7 * rows), layout="constrained", squeeze=False
    )
    cells = list(axes.flat)
    _bars(cells[0], found)
    for at, name in zip(cells[1:], names, strict=False):
        _slice(at, found.trials, name)
    if pair is not None:
        _contour(cells[1 + len(names)], found.trials, pair)
    for at in cells[panels:]:
        at.set_axis_off()
    trials = found.trials
    drawn.suptitle(
        f"{trials.study}: {len(trials.values)} trials, forest explains {max(0.0, found.explained):.0%} of unseen ones; "
        "★ the best trial",
        fontsize=11.5,
    )
    return drawn


def _bars(at: Axes, found: Importance) -> None:
    names = sorted(found.ped_anova, key=lambda name: found.fanova.get(name, 0.0))
    for k, ((method, colour, hatch), shares) in enumerate(
        zip(METHODS, (found.fanova, found.ped_anova), strict=True)
    ):
        heights = np.arange(len(names)) + (0.2 if k == 0 else -0.2)
        widths = [shares.get(name, 0.0) for name in names]
        at.barh(
            heights, widths, 0.36, label=method, color=colour, hatch=hatch, edgecolor="white", linewidth=0.5
        )
        for y, width in zip(heights, widths, strict=True):
            at.annotate(
                f"{width:.2f}", (width, y), (4, 0), textcoords="offset points", va="center", fontsize=9
            )
    at.set_yticks(range(len(names)), [SIGNS.get(name, name) for name in names])
    at.set_xlim(0, 1.12)
    at.set_xlabel("share of the importance")
    at.spines[["top", "right"]].set_visible(False)
    at.legend(loc="lower right", fontsize=9, frameon=False)


def _slice(at: Axes, trials: Trials, name: str) -> None:
    """Every trial's objective over one parameter; lighter dots are later trials."""
    x = trials.coordinates([name])[:, 0]
    at.scatter(x, trials.values, c=np.arange(len(x)), cmap=SHADES, s=34, edgecolors="0.25", linewidths=0.6)
    at.plot(
        x[trials.best],
        trials.values[trials.best],
        "*",
        markersize=15,
        color="#D55E00",
        markeredgecolor="black",
    )
    _axis(at, "x", name, trials.distributions[name])
    at.set_ylabel(_objective(trials))
    at.set_title("later trials are lighter", fontsize=9, color="0.35", loc="left")
    at.grid(color="0.92", linewidth=0.8)
    at.set_axisbelow(True)
    at.spines[["top", "right"]].set_visible(False)


def _contour(at: Axes, trials: Trials, pair: tuple[str, str]) -> None:
    """The forest's prediction over two parameters, with the trials as dots."""
    ends = [_steps(trials.distributions[name]) for name in pair]
    mesh = np.meshgrid(*ends, indexing="ij")
    heights = surface(trials, pair, np.stack([part.ravel() for part in mesh], axis=1)).reshape(mesh[0].shape)
    filled = at.contourf(*mesh, heights, levels=12, cmap=SHADES)
    lines = at.contour(*mesh, heights, levels=filled.levels[::3], colors="white", linewidths=0.7)
    for text in at.clabel(lines, fontsize=8, fmt="%.3g"):
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])
    x, y = trials.coordinates(pair).T
    at.scatter(x, y, s=20, facecolors="white", edgecolors="black", linewidths=0.8, zorder=3, clip_on=False)
    at.plot(
        x[trials.best], y[trials.best], "*", markersize=15, color="#D55E00", markeredgecolor="black", zorder=4
    )
    for side, name in zip("xy", pair, strict=True):
        _axis(at, side, name, trials.distributions[name])
    at.figure.colorbar(filled, ax=at, label=_objective(trials))
    at.set_title("a forest's prediction, mean over the others", fontsize=9, color="0.35", loc="left")


def _steps(part: BaseDistribution) -> np.ndarray:
    """Points along an axis, from end to end of the search space."""
    if isinstance(part, CategoricalDistribution):
        return np.arange(len(part.choices), dtype=float)
    spaced = np.geomspace if part.log else np.linspace
    return spaced(part.low, part.high, STEPS)


def _axis(at: Axes, side: str, name: str, part: BaseDistribution) -> None:
    """Label and scale of an axis that shows a parameter."""
    axis = at.xaxis if side == "x" else at.yaxis
    axis.set_label_text(SIGNS.get(name, name))
    if isinstance(part, CategoricalDistribution):
        axis.set_ticks(range(len(part.choices)), [str(choice) for choice in part.choices])
    elif part.log:
        (at.set_xscale if side == "x" else at.set_yscale)("log")
        known = [step * 10.0**power for power in range(-6, 7) for step in (1, 2, 5)]
        ticks = [t for t in known if part.low <= t * (1 + 1e-9) and t <= part.high * (1 + 1e-9)]
        few = isinstance(part, IntDistribution) and part.high - part.low <= 12
        axis.set_ticks(range(part.low, part.high + 1) if few else ticks)
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())


def _objective(trials: Trials) -> str:
    better = "higher" if trials.higher_is_better else "lower"
    return f"{'validation AULC' if trials.objective == 'aulc' else trials.objective}, {better} is better"


def chosen_pair(found: Importance, contour: str | None) -> tuple[str, str] | None:
    """The parameters of the contour; None where fewer than two were searched.

    Raises:
        UsageError: not two parameters that every trial has.
    """
    names = list(found.fanova)
    if contour is None:
        if {"alpha", "latent_dim"} <= set(names):
            return "alpha", "latent_dim"
        return (names[0], names[1]) if len(names) > 1 else None
    given = [name.strip() for name in contour.split(",")]
    if unknown := [name for name in given if name not in names]:
        raise UsageError(
            f"--contour: {unknown[0]} is no parameter of every trial; {nearest(unknown[0], names)}."
        )
    if len(set(given)) != 2:
        raise UsageError(f"--contour {contour}: give two parameters, with a comma between them.")
    return given[0], given[1]


def as_json(found: Importance, paths: list[str]) -> dict[str, Any]:
    """The shares and what they rest on, as plain data."""
    trials = found.trials
    return {
        "study": trials.study, "objective": trials.objective, "higher_is_better": trials.higher_is_better,
        "trials": len(trials.values), "other_trials": trials.others, "fANOVA": found.fanova,
        "PED-ANOVA": found.ped_anova, "explained": found.explained, "best": trials.points[trials.best],
        "best_value": float(trials.values[trials.best]), "warnings": found.warnings, "files": paths,
    }  # fmt: skip


def work(options: ImportanceOptions) -> None:
    """Read the study, assess, draw, print."""
    folder = Place(options.results)
    found = assess(read_trials(folder, options.study))
    pair = chosen_pair(found, options.contour)
    paths = save(figure(found, pair), stem(options.out, folder, "importance"))
    if options.format == "json":
        print(json.dumps(as_json(found, paths), indent=1, ensure_ascii=False))
        return
    trials = found.trials
    methods = (found.fanova, found.ped_anova)
    shares = [
        [SIGNS.get(name, name), *(f"{part[name]:.2f}" if name in part else "-" for part in methods)]
        for name in found.ped_anova
    ]
    best = ", ".join(f"{name} {shown(value)}" for name, value in trials.points[trials.best].items())
    print_table(
        f"Importance in {trials.study}",
        ["parameter", "fANOVA", "PED-ANOVA"],
        shares,
        f"Of the {_objective(trials)}, in {len(trials.values)} complete trials. fANOVA: shares of the variance that "
        f"each explains alone; its forest explains {max(0.0, found.explained):.0%} of unseen trials. PED-ANOVA: shares "
        f"in being among the best tenth. Best: {best}.",
    )
    for sentence in found.warnings:
        print(sentence)
    print(*paths, sep="\n")


if __name__ == "__main__":
    given = tyro.cli(ImportanceOptions, description=__doc__)
    sys.exit(guarded(lambda: work(given)))
