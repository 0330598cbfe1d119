"""The training loop of a generator: steps, one behind the other, that go on where an earlier process broke off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from alss_ray.checkpoint import Learner, Tensors, packed, unpack
from alss_ray.generators.base import Progress, Snapshots

REPORT_EVERY = 100


def take_steps(
    step: Callable[[], None],
    iterations: int,
    learners: Sequence[Learner],
    streams: Mapping[str, torch.Generator],
    progress: Progress,
    snapshots: Snapshots,
) -> None:
    """Call `step` until `iterations` are done, counting those of the last snapshot.

    Args:
        learners: the networks that a step changes, each with its optimiser.
        streams: what a step draws from, by name.
    """

    def state() -> Tensors:
        drawn = {f"stream.{name}": stream.get_state() for name, stream in streams.items()}
        return packed(learners) | drawn | {"iteration": torch.tensor(iteration)}

    iteration = 0
    if (saved := snapshots.load()) is not None:
        unpack(saved, learners)
        for name, stream in streams.items():
            stream.set_state(saved[f"stream.{name}"])
        iteration = int(saved["iteration"])
    while iteration < iterations:
        step()
        iteration += 1
        if iteration % REPORT_EVERY == 0 or iteration == iterations:
            snapshots.offer(state)
            progress(iteration, iterations)
