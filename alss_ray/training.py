"""Training and evaluating the target network F, with the images resident on the device."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alss_ray.labelled import LabelledSet
from alss_ray.tasks.base import Task, to_unit

CHUNK = 500  # images evaluated at once

OnEvaluation = Callable[[int, float], None]
"""Called with the steps taken and the mean training loss since the last call."""


@dataclass(frozen=True)
class Scores:
    """Mean loss and mean metric over a set."""

    loss: float
    metric: float
    extras: Mapping[str, float]
    """The task's further scores."""


def batch_order(size: int, iterations: int, batch_size: int, draws: torch.Generator) -> Tensor:
    """Rows for every training step, int64 `iterations x batch`: epochs in random order, one behind the other.

    A set smaller than the batch is used whole in every step.
    """
    batch_size = min(batch_size, size)
    epochs = math.ceil(iterations * batch_size / size)
    order = torch.cat([torch.randperm(size, generator=draws) for _ in range(epochs)])
    return order[: iterations * batch_size].view(iterations, batch_size)


def fit(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    labelled: LabelledSet,
    task: Task,
    order: Tensor,
    evaluate_every: int,
    on_evaluation: OnEvaluation | None,
) -> float:
    """Take one training step for each row of `order`; returns the mean training loss over them.

    `on_evaluation` runs after every `evaluate_every` steps but the last ones, 0 for never. It may put the network
    into evaluation mode.
    """
    images, targets = labelled.images, labelled.targets
    rows = order.to(images.device)
    total = torch.zeros((), device=images.device)
    recent = torch.zeros_like(total)
    network.train()
    for iteration, batch in enumerate(rows, 1):
        loss = task.loss(network(to_unit(images[batch])), targets[batch]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        recent += loss.detach()
        if on_evaluation and evaluate_every and iteration % evaluate_every == 0 and iteration < len(rows):
            on_evaluation(iteration, recent.item() / evaluate_every)
            network.train()
            total += recent
            recent.zero_()
    return (total + recent).item() / len(rows)


@torch.inference_mode()
def evaluate(network: nn.Module, images: Tensor, targets: Tensor, task: Task) -> Scores:
    """Mean loss and metric of F over uint8 images `m x C x H x W` on its device, in evaluation mode."""
    network.eval()
    totals: defaultdict[str, float] = defaultdict(float)
    for chunk, wanted in zip(images.split(CHUNK), targets.split(CHUNK), strict=True):
        outputs = network(to_unit(chunk))
        values = {"loss": task.loss(outputs, wanted), "metric": task.score(outputs, wanted)}
        for name, value in {**task.extra_scores(outputs, wanted), **values}.items():
            totals[name] += value.double().sum().item()
    means = {name: total / len(images) for name, total in totals.items()}
    return Scores(means.pop("loss"), means.pop("metric"), means)
