"""The trials of a search: an Optuna study in the results folder, taken up again where it was left."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from alss_ray.places import Place
from alss_ray.rng import stream_seed
from alss_ray.space import Choice, Point
from alss_ray.sweep import Confirmation, Sweep
from alss_ray.tune.keeping import LOST, StudyFile
from alss_ray.tune.stopping import LabelHalving
from alss_ray.tune.trial import AULC, FAILURE, FINISHED, STEPS, WAITING
from alss_ray.tune.warm import WARM, distribution


class StudyTrials:
    """What Tune needs of a search, and what the study knows of it."""

    def __init__(self, sweep: Sweep, folder: Place, earlier: Sequence[FrozenTrial] = ()) -> None:
        """
        Args:
            earlier: trials of another search that count as evaluated (`warm.earlier_trials`).
        """
        assert sweep.search is not None
        self.sweep, self.search = sweep, sweep.search
        distributions = {name: distribution(part) for name, part in self.search.space.items()}
        file = StudyFile(folder)
        storage = file.storage
        directions = [
            StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE for mode in sweep.modes
        ]
        self.study = optuna.create_study(
            study_name=sweep.name, storage=storage, directions=directions, load_if_exists=True
        )
        before = self._own_trials()
        for trial in before:
            if trial.state == TrialState.RUNNING:
                # Its process is gone. Waiting trials are asked for first, with the parameters they have.
                storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        for point in self.search.first:
            self.study.enqueue_trial(dict(point), skip_if_exists=True)
        known = {trial.user_attrs.get(WARM) for trial in self.study.get_trials(deepcopy=False)}
        self.study.add_trials([trial for trial in earlier if trial.user_attrs[WARM] not in known])
        self.total = self.search.trials
        finished = [trial for trial in before if trial.state.is_finished()]
        self.left = max(0, self.total - len(finished))
        self.param_space: dict[str, Any] = {}
        past = [trial.intermediate_values for trial in finished]
        rungs, budget = self.search.rungs, sweep.base.label_budget
        self.scheduler = LabelHalving(budget, rungs, past) if rungs else None
        # A resumed search must not draw again what it drew at its start.
        asked = sum(trial.state != TrialState.WAITING for trial in before)
        seed = stream_seed(sweep.base.seed, "search", asked) % 2**32
        one = len(sweep.modes) == 1
        self.algorithm = StudySearch(
            distributions,
            metric=AULC if one else list(self.search.objectives),
            mode=sweep.modes[0] if one else list(sweep.modes),
            study_name=sweep.name,
            storage=storage,
            sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        )
        self.algorithm.scheduler, self.algorithm.file = self.scheduler, file
        self.algorithm.shares, self.algorithm.running = self._shares(), set()

    @property
    def num_samples(self) -> int:
        return self.left

    @property
    def labels(self) -> int:
        """Labels that the trials which are left will buy at most."""
        return self.left * self.search.replicates * self.sweep.base.label_budget

    def first(self) -> StudyTrials:
        """The first trial alone."""
        self.total = self.left = min(1, self.left)
        return self

    def _own_trials(self) -> list[FrozenTrial]:
        """The study's trials without those of an earlier search."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if WARM not in trial.user_attrs]

    def _shares(self) -> deque[Point]:
        """What is fixed of the trials to come, so that every value of `each` is tried equally often."""
        each = self.search.each
        if each is None:
            return deque()
        part = self.search.space[each]
        assert isinstance(part, Choice)
        trials = self._own_trials()
        settled = [trial.params or trial.system_attrs.get("fixed_params", {}) for trial in trials]
        counts = Counter(dict.fromkeys(part.values, 0))
        counts.update(point[each] for point in settled if each in point)
        shares: deque[Point] = deque()
        for _ in range(self.search.trials - len(trials)):
            value = min(part.values, key=lambda v: counts[v])
            counts[value] += 1
            shares.append({each: value})
        return shares

    def confirmations(self) -> list[Confirmation]:
        """The best configurations that the study knows, each with random selection under the same settings."""
        complete = [t for t in self.study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
        if len(self.sweep.modes) > 1:
            complete = self.study.best_trials  # the front
        sign = -1 if self.sweep.modes[0] == "max" else 1
        found: dict[str, Confirmation] = {}
        for trial in sorted(complete, key=lambda t: (sign * t.values[0], t.number)):
            experiment = self.sweep.at(trial.params)
            confirmation = Confirmation(
                trial.params, trial.values[0], experiment, self.sweep.baseline(experiment)
            )
            found.setdefault(experiment.configuration, confirmation)
        return list(found.values())[: self.search.confirm]


class StudySearch(OptunaSearch):
    """OptunaSearch that tells the study of every trial what has become of it.

    Tune calls `on_trial_complete` with the latest result whatever ended the trial, and OptunaSearch takes that for
    a full result. Here a trial that was stopped early is PRUNED, one whose experiment failed is a FAIL, and one
    that was interrupted stays as it is, to be taken up again. Intermediate values stand at numbers of labels.
    """

    scheduler: LabelHalving | None = None
    file: StudyFile
    shares: deque[Point]
    """What is fixed of the trials to come. They join the queue one by one: Optuna reads all of it for every trial."""
    slots: int = 1
    """Trials at once at most. One that waits for people keeps its slot: others could not learn from it."""
    running: set[str]
    waiting: int = 0

    def suggest(self, trial_id: str) -> Any:  # its base class leaves out Tune's word for the end
        if self.waiting and self.waiting + len(self.running) >= self.slots:
            return None if self.running else Searcher.FINISHED
        self.running.add(trial_id)
        study: Any = self._ot_study  # None to its base class's types
        if self.shares:
            study.enqueue_trial(dict(self.shares.popleft()))
        point = super().suggest(trial_id)
        self.file.keep()
        return point

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if not isinstance(self.metric, list):  # Optuna takes no intermediate values of several objectives
            for labels, value in result[STEPS]:
                self._ot_trials[trial_id].report(value, labels)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self.running.discard(trial_id)
        if result is not None and WAITING in result:
            self.waiting += 1
        if result is not None and (LOST in result or WAITING in result):
            return
        if error or (result is not None and FAILURE in result):
            super().on_trial_complete(trial_id, None, error=True)
        elif result is not None and result.get(FINISHED):
            super().on_trial_complete(trial_id, result)
        elif result is not None and self.scheduler is not None and trial_id in self.scheduler.stopped:
            self.on_trial_result(trial_id, result)  # Tune keeps the result that ended a trial from the search
            super().on_trial_complete(trial_id, None)
        self.file.keep()
