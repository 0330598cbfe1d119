"""What learning curves are held against: the same network, trained on every label that the pool has."""

from __future__ import annotations

import dataclasses

from alss_ray.config import Experiment
from alss_ray.strategies import Random
from alss_ray.tasks.base import TaskData


def whole_pool(base: Experiment, data: TaskData) -> Experiment | None:
    """All labels of D but the validation set's, bought in one round and given the training steps of all of `base`.

    None where that is no fair price for a line in a picture (`TaskData.whole_pool`).
    """
    if not data.whole_pool:
        return None
    free = len(data.images) - base.validation_size
    return dataclasses.replace(
        base,
        strategy=Random(),
        generator=None,
        round_size=free,
        label_budget=free,
        validation_share=base.validation_size / free,
        iterations=base.rounds * base.iterations,
    )
