"""Early stopping by label budget: asynchronous successive halving (Li et al. 2020) on the labels bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler

from alss_ray.sweep import HALVING
from alss_ray.tune.trial import AULC, STEPS

LABELS = "labels"


class LabelHalving(AsyncHyperBandScheduler):
    """Ray's ASHA, whose rungs are numbers of labels.

    Trials of different round sizes pass a rung with different numbers of labels, and an AULC is a running mean, so
    each rung compares what trials report for exactly its labels, not their latest value.
    """

    def __init__(self, budget: int, rungs: Sequence[int], past: Sequence[Mapping[int, float]]) -> None:
        """
        Args:
            past: labels -> AULC of the trials that came before, in an earlier run of this sweep.
        """
        super().__init__(
            time_attr=LABELS,
            max_t=budget,
            grace_period=rungs[0],
            reduction_factor=HALVING,
            stop_last_trials=False,
        )
        self.past = past
        self.stopped: set[str] = set()
        """Trials whose end is this scheduler's doing."""

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        known = super().set_search_properties(metric, mode, **spec)
        for number, values in enumerate(self.past):
            before: Any = SimpleNamespace(trial_id=f"before-{number}")
            self.on_trial_add(None, before)  # type: ignore[arg-type]
            self.on_trial_result(None, before, {STEPS: sorted(values.items())})
        self.stopped.clear()
        return known

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        for labels, value in result[STEPS]:
            if super().on_trial_result(tune_controller, trial, {LABELS: labels, AULC: value}) == self.STOP:
                self.stopped.add(trial.trial_id)
                return self.STOP
        return self.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._trial_info.pop(trial.trial_id, None)  # its rungs are known
