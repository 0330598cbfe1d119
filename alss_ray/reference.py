"""What learning curves are held against: random selection, and the network trained on every label of the pool."""

from __future__ import annotations

import dataclasses

from alss_ray.config import Experiment
from alss_ray.strategies import Random
from alss_ray.tasks.base import TaskData


def random_selection(base: Experiment) -> Experiment:
    """The paper's baseline with the settings of `base`, as far as they do not need a latent space."""
    return dataclasses.replace(base, strategy=Random(), generator=None, decoded_beside=False)


def whole_pool(base: Experiment, data: TaskData) -> Experiment | None:
    """All labels of D but the validation set's, bought in one round and given the training steps of all of `base`.

    None where that is no fair price for a line in a picture (`TaskData.whole_pool`).
    """
    if not data.whole_pool:
        return None
    free = len(data.images) - base.validation_size
    return dataclasses.replace(
        random_selection(base),
        round_size=free,
        label_budget=free,
        validation_share=base.validation_size / free,
        iterations=base.rounds * base.iterations,
    )
