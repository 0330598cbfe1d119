"""Warm start: the finished trials of an earlier search, as far as they lie in this search's space."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from alss_ray import reading, results
from alss_ray.config import UsageError
from alss_ray.display import shown
from alss_ray.files import StoreError
from alss_ray.materials import materials
from alss_ray.places import Place
from alss_ray.space import Choice, Float, Int, holds
from alss_ray.specs import fields
from alss_ray.sweep import Sweep
from alss_ray.tune.keeping import StudyFile

WARM = "warm_start"  # the attribute of a study's trial that names the folder it comes from


def earlier_trials(sweep: Sweep) -> list[FrozenTrial]:
    """The complete trials of the folder to start from as trials of this search; what differs is said in a sentence.

    Raises:
        UsageError: the folder holds no search, one that measured something else, or none of its trials lies here.
    """
    if sweep.search is None or sweep.search.warm_start is None:
        return []
    folder = Place(sweep.search.warm_start)
    distributions = {name: distribution(part) for name, part in sweep.search.space.items()}
    before = _asked(folder)
    now = sweep.asked()
    _agree(sweep, folder, before, now)
    file = StudyFile(folder)
    study = optuna.load_study(study_name=before["name"], storage=file.storage)
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    differences: set[str] = set()
    found = []
    for trial in complete:
        values = {**before["experiment"], **trial.params}
        outside = {
            f"{name} {shown(values.get(name))} is outside"
            for name, part in sweep.search.space.items()
            if not holds(part, values.get(name))
        } | {
            f"{name} was {values.get(name)}, now {value}"
            for name, value in now["experiment"].items()
            if name != "seed" and values.get(name) != value
        }
        differences |= outside
        if not outside:
            found.append(
                optuna.trial.create_trial(
                    params={name: values[name] for name in distributions},
                    distributions=distributions,
                    values=trial.values,
                    user_attrs={WARM: str(folder)},
                )
            )
    for name in ("seed", "replicates"):
        old, new = (part.get(name, part["experiment"].get(name)) for part in (before, now))
        if old != new:
            differences.add(f"{name} was {old}, now {new}")
    said = f"{len(found)} of {len(complete)} finished trials of {folder} lie in this search space"
    if differences:
        few = sorted(differences)[:4]
        said += f" ({'; '.join(few)}{'; ...' if len(differences) > len(few) else ''})"
    if not found:
        raise UsageError(f"{said}; leave --warm-start out, or widen the space.")
    print(f"Warm start: {said}.", file=sys.stderr)
    return found


def _asked(folder: Place) -> dict[str, Any]:
    """What the earlier search was asked for."""
    try:
        before = json.loads((folder / results.MANIFEST).read())["asked"]
        if (folder / results.STUDY).exists() and "objectives" in before:
            return before
    except StoreError:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UsageError(f"{folder} holds no search to start from; give the results folder of one.")


def _agree(sweep: Sweep, folder: Place, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise UsageError unless both searches measured the same thing on the same data."""
    shared = [f.name for f in fields(sweep.base).values() if f.owner == "task"]
    names = [
        name for name in ("task", *shared, "label_budget", "validation_share") if name in now["experiment"]
    ]
    pairs = {name: (before["experiment"].get(name), now["experiment"][name]) for name in names}
    pairs["objectives"] = (before["objectives"], list(now["objectives"]))
    hashes = set(reading.read("rounds", [folder]).table["data_hash"].to_pylist())
    fingerprint = materials(sweep.base.task).fingerprint
    pairs["data hash"] = (", ".join(sorted(hashes)), fingerprint)
    if differences := [f"{name} was {old}, now {new}" for name, (old, new) in pairs.items() if old != new]:
        raise UsageError(f"{folder} cannot be a warm start: {'; '.join(differences)}.")


def distribution(part: Float | Int | Choice) -> optuna.distributions.BaseDistribution:
    """Optuna's word for a parameter's range."""
    if isinstance(part, Choice):
        return optuna.distributions.CategoricalDistribution(part.values)
    if isinstance(part, Int):
        return optuna.distributions.IntDistribution(part.low, part.high, log=part.log)
    return optuna.distributions.FloatDistribution(part.low, part.high, log=part.log)
