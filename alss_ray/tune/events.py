"""What the display hears of Tune's trials."""

from __future__ import annotations

from typing import Any

from ray import tune

from alss_ray.display import SweepDisplay
from alss_ray.space import Point
from alss_ray.tune.keeping import LOST
from alss_ray.tune.trial import AULC, FAILURE, FINISHED, WAITING


class Events(tune.Callback):
    """Tells the display what Tune hears of its trials."""

    def __init__(self, display: SweepDisplay) -> None:
        self.display = display

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into its state, which is never read here; a display cannot be

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.display.started(trial.trial_id, _told(trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if FAILURE in result:
            self.display.failed(trial.trial_id, result[FAILURE])
        elif WAITING in result:
            self.display.waits(trial.trial_id, result[WAITING])
        elif LOST not in result:
            self.display.reported(trial.trial_id, result["rounds"], result["labels"], result[AULC])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.display.completed(trial.trial_id, early=not trial.last_result.get(FINISHED, False))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.display.failed(trial.trial_id, str(trial.get_error()).strip().splitlines()[-1])


def _told(config: Point) -> Point:
    """What is worth showing of a trial's configuration."""
    listed: Any = config.get("experiment")
    if listed is None:
        return config
    return {name: listed[name] for name in ("strategy", "direction", "seed") if name in listed}
