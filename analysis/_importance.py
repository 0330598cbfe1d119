"""Which searched parameters matter, from the Optuna study of a search. Imports neither torch nor Ray."""

from __future__ import annotations

import contextlib
import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import OptunaError
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState
from sklearn.ensemble import RandomForestRegressor
from sqlalchemy.exc import SQLAlchemyError

from alss_ray.config import UsageError
from alss_ray.places import Place
from alss_ray.results import MANIFEST, STUDY

LEAST = 4  # trials below which no method says anything
BEST_SHARE = 0.1  # of the trials are "the best" to PED-ANOVA: Optuna's default
BEST_NEEDED = 5  # of those, as Optuna asks for
EXPLAINED_NEEDED = 0.5
FOREST = {"n_estimators": 64, "max_depth": 64, "random_state": 0}  # as large as that of Optuna's fANOVA


@dataclass(frozen=True)
class Trials:
    """The complete trials of a study, of one objective."""

    study: str
    """The study's name."""
    objective: str
    """'aulc' or 'oracle_seconds'."""
    higher_is_better: bool
    points: tuple[dict[str, Any], ...]
    """Parameter -> value, a trial; a parameter that only some trials have is missing in others."""
    values: np.ndarray
    """The objective of each trial, in its own unit."""
    distributions: dict[str, BaseDistribution]
    """Parameter -> what it was drawn from; those with a single value left out."""
    others: dict[str, int]
    """State -> number of the trials that are not complete."""

    @property
    def shared(self) -> list[str]:
        """Parameters that every trial has, sorted by name."""
        return sorted(name for name in self.distributions if all(name in point for point in self.points))

    @property
    def best(self) -> int:
        """Position of the best trial."""
        return int(self.values.argmax() if self.higher_is_better else self.values.argmin())

    def coordinates(self, names: Sequence[str]) -> np.ndarray:
        """Trials x parameters, as the forest and the axes take them: a choice by its position."""
        return np.array(
            [[position(self.distributions[n], point[n]) for n in names] for point in self.points], float
        )


@dataclass(frozen=True)
class Importance:
    """How much each parameter matters, by two methods that ask different questions."""

    trials: Trials
    fanova: dict[str, float]
    """Parameter -> share of the objective's variance over the search space that the parameter alone explains in a
    forest fitted to the trials (Hutter et al. 2014), the shares of all parameters adding up to 1. Without
    parameters that only some trials have."""
    ped_anova: dict[str, float]
    """Parameter -> how far the distribution of its values in the best tenth of the trials is from that in all of
    them (Watanabe et al. 2023), adding up to 1."""
    explained: float
    """R² of such a forest on trials that it was not fitted to (out of bag): where it is near 0 or below, the trials
    do not show that any parameter matters, whatever the shares."""
    warnings: tuple[str, ...]
    """A sentence for each thing that makes the shares unreliable."""


def position(distribution: BaseDistribution, value: Any) -> float:
    """A value as a number: that of a choice is its position among the choices."""
    if isinstance(distribution, CategoricalDistribution):
        return float(distribution.choices.index(value))
    return float(value)


def read_trials(folder: Place, study: str | None = None) -> Trials:
    """The complete trials of the study in a results folder, which is only read.

    Raises:
        UsageError: there is no study, it is damaged, or it has too few complete trials.
    """
    if not folder.exists():
        raise UsageError(f"There is no results folder {folder}.")
    if not (folder / STUDY).exists():
        raise UsageError(
            f"{folder} holds no {STUDY}: importance is read off a search, such as sweeps/joint.py makes."
        )
    try:
        with _opened(folder / STUDY) as storage:
            names = optuna.get_all_study_names(storage)
            if study not in (*names, None) or (len(names) != 1 and study is None):
                raise UsageError(
                    f"{folder / STUDY} holds the studies {', '.join(names)}; give one of them as --study."
                )
            loaded = optuna.load_study(study_name=study or names[0], storage=storage)
            found, directions = loaded.get_trials(deepcopy=False), loaded.directions
    except (SQLAlchemyError, OptunaError, OSError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UsageError(f"{folder / STUDY} cannot be read as an Optuna study ({reason}).") from error
    objectives = _objectives(folder, len(directions))
    at = objectives.index("aulc") if "aulc" in objectives else 0
    complete = [trial for trial in found if trial.state == TrialState.COMPLETE]
    states = [trial.state.name for trial in found if trial.state != TrialState.COMPLETE]
    others = {state.lower(): states.count(state) for state in sorted(set(states))}
    if len(complete) < LEAST:
        rest = "".join(f", {count} {state}" for state, count in others.items())
        raise UsageError(
            f"The study {loaded.study_name} has {len(complete)} complete trials{rest}; "
            f"importance takes {LEAST} at the very least, and is believable from {needed()} on."
        )
    distributions = {name: part for trial in complete for name, part in trial.distributions.items()}
    return Trials(
        loaded.study_name, objectives[at], directions[at] == optuna.study.StudyDirection.MAXIMIZE,
        tuple(dict(trial.params) for trial in complete), np.array([trial.values[at] for trial in complete]),
        {name: part for name, part in distributions.items() if not part.single()}, others,
    )  # fmt: skip


@contextlib.contextmanager
def _opened(place: Place) -> Iterator[optuna.storages.RDBStorage]:
    """The study's storage, opened in a way in which SQLite itself refuses to write."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="alss-ray-") as scratch:
        path = place.local
        if path is None:
            path = Path(scratch) / STUDY
            path.write_bytes(place.read())
        url = f"sqlite:///file:{path.absolute()}?mode=ro&uri=true"
        storage = optuna.storages.RDBStorage(url, skip_table_creation=True)
        try:
            yield storage
        finally:
            storage.engine.dispose()


def _objectives(folder: Place, count: int) -> list[str]:
    """The names of the study's objectives, as the manifest has them."""
    try:
        named = json.loads((folder / MANIFEST).read())["asked"]["objectives"]
    except (OSError, ValueError, KeyError, TypeError):
        named = []
    return named if len(named) == count else ["aulc", *(f"objective {k + 2}" for k in range(count - 1))]


def needed() -> int:
    """Trials from which on PED-ANOVA's best tenth holds as many as it needs."""
    return round(BEST_NEEDED / BEST_SHARE)


def assess(trials: Trials) -> Importance:
    """The importance of each parameter by fANOVA and by PED-ANOVA, and how far to believe it."""
    if not trials.shared:
        raise UsageError(
            f"No parameter with more than one value is in every trial of the study {trials.study}."
        )
    # A study of its own: of one objective, and without what the search left unfinished.
    study = optuna.create_study(direction="maximize" if trials.higher_is_better else "minimize")
    study.add_trials([_trial(trials, k) for k in range(len(trials.points))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fanova = get_param_importances(
            study, evaluator=FanovaImportanceEvaluator(seed=0), params=trials.shared
        )
        ped = get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), params=sorted(trials.distributions)
        )
        forest = RandomForestRegressor(**FOREST, oob_score=True)
        forest.fit(trials.coordinates(trials.shared), trials.values)
    explained = float(forest.oob_score_)
    return Importance(
        trials, {name: float(v) for name, v in fanova.items()}, {name: float(v) for name, v in ped.items()},
        explained, tuple(_cautions(trials, explained)),
    )  # fmt: skip


def _trial(trials: Trials, k: int) -> FrozenTrial:
    params = {name: value for name, value in trials.points[k].items() if name in trials.distributions}
    return optuna.create_trial(
        params=params,
        distributions={name: trials.distributions[name] for name in params},
        value=float(trials.values[k]),
    )


def _cautions(trials: Trials, explained: float) -> Iterator[str]:
    count = len(trials.values)
    if count < needed():
        best = -(-count // round(1 / BEST_SHARE))
        yield (
            f"PED-ANOVA judges by the best tenth, which is {best} of {count} complete trials here; it takes "
            f"{BEST_NEEDED} or more, so {needed()} trials: add --trials {needed()} --resume to the sweep's command."
        )
    if explained < EXPLAINED_NEEDED:
        yield (
            f"fANOVA's forest explains {max(0.0, explained):.0%} of the variance of trials that it has not seen, less "
            f"than {EXPLAINED_NEEDED:.0%}, so its shares are doubtful: there are too few trials, or no parameter "
            "matters much where they lie."
        )
    if trials.others:
        states = ", ".join(f"{n} {state}" for state, n in trials.others.items())
        yield f"Trials that are not complete do not count: {states}."


def surface(trials: Trials, names: Sequence[str], grid: np.ndarray) -> np.ndarray:
    """What a forest predicts at points of some parameters (points x parameters), averaged over the trials' others."""
    everything = trials.shared
    forest = RandomForestRegressor(**FOREST).fit(trials.coordinates(everything), trials.values)
    samples = trials.coordinates(everything)
    filled = np.repeat(samples[None], len(grid), axis=0)
    for k, name in enumerate(names):
        filled[:, :, everything.index(name)] = grid[:, k, None]
    return forest.predict(filled.reshape(-1, len(everything))).reshape(len(grid), -1).mean(axis=1)
