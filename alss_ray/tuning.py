"""The same tuning budget for every arm of a comparison: settings tried on validation alone, with seeds apart.

Each arm is tried as it stands and at drawn settings of the training and of its own options; arms that share an option
get the same draws of it. What is chosen has the best mean validation AULC over the tuning seeds.
"""

from __future__ import annotations

import json
import random
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from alss_ray.catalogue import experiment_from
from alss_ray.config import Experiment, Scalar, UsageError, flatten
from alss_ray.display import print_table
from alss_ray.metrics import display_unit
from alss_ray.places import Place
from alss_ray.results import MANIFEST
from alss_ray.space import Choice, Float, Int, Space, draw
from alss_ray.summary import final_rows, spread

TUNING_SEED = 500_000
"""Seeds from here on tune; those of searches lie below, those of what is confirmed above."""
KIND = ("strategy", "direction")
"""What tells an arm from another, beside what is tuned."""
OWN: Space = {
    "alpha": Float(0.3, 10.0, log=True),
    "candidates": Int(2, 30, log=True),
    "chosen": Choice(("highest", "proportional")),
    "first": Choice(("latent", "real")),
    "neighbours": Int(5, 40, log=True),
    "spread": Choice(("unit", "data")),
    "steps": Int(1, 6),
    "stepped_from": Choice(("labelled", "fresh")),
}
"""Options of strategies that are tuned, wherever a strategy has them."""


def space(arm: Experiment) -> Space:
    """What is tuned of an arm: the learning rate within a factor of three, and its strategy's own options."""
    own = {name: part for name, part in OWN.items() if name in flatten(arm)}
    return {"learning_rate": Float(arm.learning_rate / 3, 3 * arm.learning_rate, log=True), **own}


def settings(arm: Experiment, count: int) -> list[Experiment]:
    """The arm as it stands and at `count` - 1 drawn settings, with the first tuning seed."""
    values = {**flatten(arm, identity_only=False), "seed": TUNING_SEED}
    drawn = [
        {name: draw({name: part}, random.Random(f"{k} {name}"))[name] for name, part in space(arm).items()}
        for k in range(1, count)
    ]
    return [experiment_from({**values, **point}) for point in ({}, *drawn)]


def tuned(arm: Experiment, folder: Place) -> Experiment:
    """The arm with the settings that the tuning in a results folder found best for it.

    Raises:
        UsageError: the folder holds no tuning, or none of this arm, or one that is not finished.
    """
    tried = by_settings(folder).get(_kind(arm))
    if tried is None:
        raise UsageError(
            f"{folder} holds no tuning of the arm {' '.join(_kind(arm))}; tune it, too, with --tune."
        )
    best = _best(tried)
    return experiment_from(
        {**flatten(arm, identity_only=False), **{name: best.values[name] for name in space(arm)}}
    )


class Tried:
    """One setting of an arm, with a score for each tuning seed that is finished: the higher the better."""

    def __init__(self, values: Mapping[str, Scalar]) -> None:
        self.values = values
        self.scores: list[float] = []


def _best(tried: Sequence[Tried]) -> Tried:
    """The setting with the best mean score, the first of equal ones."""
    return max(tried, key=lambda one: statistics.fmean(one.scores))


def by_settings(folder: Place) -> dict[tuple[str, ...], list[Tried]]:
    """Arm -> its settings, in the order in which they were listed.

    Raises:
        UsageError: as `tuned`.
    """
    try:
        asked = json.loads((folder / MANIFEST).read().decode())["asked"]
        listed: dict[str, dict[str, Scalar]] = asked["experiments"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{folder} holds no tuning ({error}); make one with --tune.") from error
    rows = final_rows(folder)
    found: defaultdict[tuple[str, ...], dict[str, Tried]] = defaultdict(dict)
    for identity, values in listed.items():
        if (row := rows.get(identity)) is None:
            raise UsageError(f"The tuning in {folder} is not finished; add --resume to its command first.")
        experiment = experiment_from(values)
        tried = found[_kind(experiment)].setdefault(experiment.configuration, Tried(values))
        tried.scores.append(row["val_aulc"] if row["higher_is_better"] else -row["val_aulc"])
    return {kind: list(settings.values()) for kind, settings in found.items()}


def show(folder: Place, base: Experiment) -> None:
    """Print what was chosen for each arm, and how far it is ahead of the arm as it stands."""
    scale, unit = display_unit(base.task.metric)
    body = []
    for kind, tried in by_settings(folder).items():
        best = _best(tried)
        names = [name for name in ("learning_rate", *OWN) if name in best.values]
        told = ", ".join(f"{name} {_short(best.values[name])}" for name in names)
        at = [[abs(scale * score) for score in one.scores] for one in (tried[0], best)]
        body.append([" ".join(kind), str(len(tried)), *(spread(values, 2) for values in at), told])
    print_table(
        f"Tuning on {base.task.name}, by the validation set alone",
        ["arm", "settings", f"as it stands: AULC ({base.task.metric}{unit})", "the best", "which is"],
        body,
        "Mean ± standard deviation over the tuning seeds. Chosen among several, so too good by nature.",
    )


def _short(value: Scalar) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _kind(arm: Experiment) -> tuple[str, ...]:
    values = flatten(arm)
    return tuple(str(values[name]) for name in KIND if name in values)
