"""Training against a bare PyTorch loop, to the last bit; evaluation against scikit-learn."""

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor, nn
from torch.nn import functional

from alss_ray import training
from alss_ray.config import Experiment
from alss_ray.generators import Vae
from alss_ray.generators.base import Embedding
from alss_ray.labelled import LabelledSet
from alss_ray.strategies import Snn
from alss_ray.tasks import Digits
from alss_ray.training import batch_order, evaluate, fit, training_set

TASK = Digits()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(count: int, seed: int = 0) -> LabelledSet:
    images = torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=seeded(seed))
    targets = torch.randint(10, (count,), generator=seeded(seed + 1))
    return LabelledSet.empty(images).append(images, targets, torch.arange(count), 1, made=False)


def plain() -> nn.Module:
    return TASK.network()


def with_batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(144, 10)
    )


def fresh(make: Callable[[], nn.Module]) -> tuple[nn.Module, torch.optim.Optimizer]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make()
    return network, torch.optim.Adam(network.parameters(), 1e-3)


def bare_loop(
    network: nn.Module, optimiser: torch.optim.Optimizer, data: LabelledSet, order: Tensor
) -> list[float]:
    """What anyone would write by hand; returns the loss of each step."""
    losses = []
    network.train()
    for rows in order:
        optimiser.zero_grad()
        outputs = network(data.images[rows].float() / 255)
        loss = functional.cross_entropy(outputs, data.targets[rows])
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("make", [plain, with_batch_norm])
@pytest.mark.parametrize("evaluate_every", [0, 4, 5, 100])
def test_fit_is_a_bare_loop_to_the_last_bit(make: Callable[[], nn.Module], evaluate_every: int) -> None:
    """Whether or not evaluations (in evaluation mode) come in between."""
    data, held_out = samples(200), samples(64, 5)
    order = batch_order(len(data), 20, 64, seeded())
    (network, optimiser), (bare, bare_optimiser) = fresh(make), fresh(make)
    heard = []

    def listen(iteration: int, loss: float) -> None:
        evaluate(network, held_out.images, held_out.targets, TASK)
        heard.append((iteration, loss))

    with torch.random.fork_rng():
        torch.manual_seed(1)  # dropout
        mean = fit(network, optimiser, data, TASK, order, evaluate_every, listen)
        torch.manual_seed(1)
        losses = bare_loop(bare, bare_optimiser, data, order)
    for name, value in network.state_dict().items():
        assert torch.equal(value, bare.state_dict()[name]), name
    for slot, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            assert torch.equal(value, bare_optimiser.state_dict()["state"][slot][name])
    assert mean == pytest.approx(sum(losses) / 20, rel=1e-5)
    times = list(range(evaluate_every, 20, evaluate_every)) if evaluate_every else []
    assert [iteration for iteration, _ in heard] == times
    for iteration, loss in heard:
        assert loss == pytest.approx(
            sum(losses[iteration - evaluate_every : iteration]) / evaluate_every, rel=1e-5
        )


def test_fit_learns_and_reports_a_diverged_loss() -> None:
    data = samples(20)
    network, optimiser = fresh(plain)
    before = evaluate(network, data.images, data.targets, TASK)
    fit(network, optimiser, data, TASK, batch_order(20, 150, 64, seeded()), 0, lambda *_: None)
    after = evaluate(network, data.images, data.targets, TASK)
    assert after.loss < before.loss / 10
    assert after.metric == 1.0
    next(network.parameters()).data.fill_(torch.nan)
    lost = fit(network, optimiser, data, TASK, batch_order(20, 2, 64, seeded()), 0, lambda *_: None)
    assert lost != lost


@pytest.mark.parametrize("make", [plain, with_batch_norm])
@pytest.mark.parametrize("count", [1, training.CHUNK, 2 * training.CHUNK + 203])
def test_evaluate_agrees_with_scikit_learn(make: Callable[[], nn.Module], count: int) -> None:
    data = samples(count)
    network, _ = fresh(make)
    scores = evaluate(network, data.images, data.targets, TASK)
    with torch.no_grad():
        shares = network.eval()(data.images.float() / 255).double().softmax(1)
    assert scores.metric == pytest.approx(accuracy_score(data.targets, shares.argmax(1)), abs=1e-12)
    assert scores.loss == pytest.approx(log_loss(data.targets, shares.numpy(), labels=range(10)), rel=1e-5)


def test_evaluate_changes_nothing() -> None:
    data = samples(100)
    network, _ = fresh(with_batch_norm)
    before = copy.deepcopy(network.state_dict())
    first, second = (evaluate(network, data.images, data.targets, TASK) for _ in range(2))
    assert first == second
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("size", "iterations", "batch"), [(100, 25, 20), (64, 9, 64), (130, 50, 64), (1000, 3, 64)]
)
def test_batches_run_through_epochs_in_random_order(size: int, iterations: int, batch: int) -> None:
    order = batch_order(size, iterations, batch, seeded())
    assert order.shape == (iterations, batch)
    row = order.flatten()
    epochs = [epoch.tolist() for epoch in row.split(size)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch)
    assert all(epochs[k] != epochs[k + 1] for k in range(len(epochs) - 2))
    assert row[: min(size, len(row))].tolist() != list(range(min(size, len(row))))
    assert torch.equal(order, batch_order(size, iterations, batch, seeded()))
    assert not torch.equal(order, batch_order(size, iterations, batch, seeded(1)))


@pytest.mark.parametrize("size", [1, 10, 63])
def test_a_set_smaller_than_the_batch_is_used_whole(size: int) -> None:
    order = batch_order(size, 4, 64, seeded())
    assert order.sort(1).values.tolist() == [list(range(size))] * 4


class Constant(nn.Module):
    """G whose images are grey all over: a point's one coordinate is their brightness."""

    def forward(self, points: Tensor) -> Tensor:
        return points.view(-1, 1, 1, 1).expand(-1, 1, 8, 8)


def test_decoded_images_stand_beside_the_samples_with_the_same_labels() -> None:
    brightness = torch.rand(1100, 1, generator=seeded(7))  # more than are decoded at once
    some = dataclasses.replace(samples(1100), points=brightness)
    embedding = Embedding(nn.Identity(), Constant(), brightness)
    experiment = Experiment(task=TASK, strategy=Snn(), generator=Vae(latent_dim=1), decoded_beside=True)
    both = training_set(experiment, some, embedding)
    assert torch.equal(both.images[:1100], some.images)
    wanted = np.rint(brightness.numpy() * np.float32(255))[:, :, None, None]
    assert np.array_equal(both.images[1100:].numpy(), np.broadcast_to(wanted, (1100, 1, 8, 8)))
    assert torch.equal(both.targets, torch.cat([some.targets, some.targets]))
    assert both.made.tolist() == [False] * 1100 + [True] * 1100
    plain = dataclasses.replace(experiment, decoded_beside=False)
    assert training_set(plain, some, embedding) is some
