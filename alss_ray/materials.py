"""What the experiments on one task share: its data, loaded once, and its oracle or what stands before it."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import torch

from alss_ray.config import Experiment, UsageError, component_name
from alss_ray.oracles import Oracle
from alss_ray.oracles.cache import remembering
from alss_ray.tasks.base import TaskData


@dataclass(frozen=True)
class Materials:
    """What experiments on one task share."""

    data: TaskData
    fingerprint: str
    """`data.fingerprint()`."""
    oracle: Oracle
    """The task's oracle, or what stands before it: a cache, or a service of many workers."""

    def cached(self) -> Materials:
        """The same with a label cache before the oracle, where labels are bought."""
        folder = self.data.label_folder
        return self if folder is None else dataclasses.replace(self, oracle=remembering(self.oracle, folder))


@functools.lru_cache(maxsize=1)
def materials(task: Any) -> Materials:
    """A task's data and oracle; the last ones are kept for the next call."""
    data = task.load()
    return Materials(data, data.fingerprint(), data.oracle)


def suits(strategy: Any, data: TaskData) -> bool:
    """Whether a strategy, or its class, can be used on the data."""
    return strategy.learns in ("anything", _kind_of_labels(data)) and (
        data.label_folder is not None or not strategy.makes_images
    )


def _kind_of_labels(data: TaskData) -> str:
    return "classes" if data.test_targets.dtype == torch.int64 else "maps"


def check(experiment: Experiment, data: TaskData) -> None:
    """Raise UsageError where the data cannot carry the experiment."""
    strategy, task = component_name(experiment.strategy), component_name(experiment.task)
    if experiment.strategy.makes_images and data.label_folder is None:
        raise UsageError(
            f"The strategy {strategy} synthesises images, but the task {task} has stored labels only (its TaskData "
            "names no label_folder); choose another --strategy or --task."
        )
    if not suits(experiment.strategy, data):
        raise UsageError(
            f"The strategy {strategy} needs labels that are {experiment.strategy.learns}, but those of {task} are "
            f"{_kind_of_labels(data)}; choose another --strategy or --task."
        )
    pool, wanted = len(data.images), experiment.label_budget + experiment.validation_size
    if experiment.round_size > pool:
        raise UsageError(
            f"The round size of {experiment.round_size} is larger than the pool of {pool} images; "
            "lower --round-size."
        )
    if wanted > pool:
        raise UsageError(
            f"The label budget of {experiment.label_budget} and {experiment.validation_size} validation labels "
            f"exceed the pool of {pool} images; lower --label-budget or --validation-share."
        )
