"""Training and evaluating the target network F, with the images resident on the device."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alss_ray import rng
from alss_ray.checkpoint import Learner
from alss_ray.config import Experiment
from alss_ray.devices import InBfloat16, mixed_precision, placed
from alss_ray.generators.base import Embedding
from alss_ray.labelled import LabelledSet
from alss_ray.tasks.base import Task, in_parts, to_bytes, to_unit

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
        with mixed_precision(images.device):
            outputs = network(to_unit(images[batch]))
        loss = task.loss(outputs.float(), targets[batch]).mean()
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
def training_set(experiment: Experiment, labelled: LabelledSet, embedding: Embedding | None) -> LabelledSet:
    """What F trains on: the labelled set, with the image G(p) of every point beside it where that is asked for."""
    if not experiment.decoded_beside:
        return labelled
    assert embedding is not None
    points = labelled.points.split([len(part) for part in in_parts(labelled.images, CHUNK)])
    decoded = torch.cat([to_bytes(embedding.decoder(some)) for some in points])
    whole = dataclasses.replace(labelled, images=decoded, made=torch.ones_like(labelled.made))
    return labelled.joined(whole)


def fresh_learners(experiment: Experiment, device: torch.device) -> list[Learner]:
    """F and the other members of the strategy's committee, untrained, each from a stream of its own."""
    learners: list[Learner] = []
    for member in range(experiment.strategy.committee):
        with rng.scope(experiment.seed, "init", *_of(member)):
            network = placed(experiment.task.network(), device)
        network = InBfloat16(network) if experiment.bfloat16 else network
        adam = torch.optim.Adam(network.parameters(), experiment.learning_rate, fused=True)
        learners.append((network, adam))
    return learners


def train(
    experiment: Experiment,
    t: int,
    member: int,
    learner: Learner,
    labelled: LabelledSet,
    on_evaluation: OnEvaluation | None,
) -> float:
    """Round t's training steps of F (member 0) or of another member; the mean training loss over them."""
    draws = rng.stream(experiment.seed, "batches", t, *_of(member))
    order = batch_order(len(labelled), experiment.iterations, experiment.batch_size, draws)
    with rng.scope(experiment.seed, "fit", t, *_of(member)):
        return fit(*learner, labelled, experiment.task, order, experiment.evaluate_every, on_evaluation)


def _of(member: int) -> tuple[str | int, ...]:
    """What the random streams of a member are named beside those of F, which is member 0."""
    return ("member", member) if member else ()


@dataclass
class Seen:
    """What networks were shown."""

    images: int = 0


@contextlib.contextmanager
def images_seen(networks: Sequence[nn.Module]) -> Iterator[Seen]:
    """Count the images that networks are run on inside the block, each network's for itself."""
    seen = Seen()

    def add(network: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.images += len(given[0])

    hooks = [network.register_forward_pre_hook(add) for network in networks]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def evaluate(network: nn.Module, images: Tensor, targets: Tensor, task: Task) -> Scores:
    """Mean loss and metric of F over uint8 images `m x C x H x W` on its device, in evaluation mode."""
    network.eval()
    totals: dict[str, Tensor] = {}  # on the device: it is waited for once, at the end
    chunks = in_parts(images, CHUNK)
    for chunk, wanted in zip(chunks, targets.split([len(chunk) for chunk in chunks]), strict=True):
        outputs = network(to_unit(chunk))
        values = {"loss": task.loss(outputs, wanted), "metric": task.score(outputs, wanted)}
        for name, value in {**task.extra_scores(outputs, wanted), **values}.items():
            total = value.double().sum()
            totals[name] = totals.get(name, torch.zeros_like(total)) + total
    means = {name: total.item() / len(images) for name, total in totals.items()}
    return Scores(means.pop("loss"), means.pop("metric"), means)
