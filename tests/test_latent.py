"""Equations 1 and 2 against closed forms, automatic differentiation sample by sample, and finite differences."""

import copy
import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from alss_ray import latent
from alss_ray.latent import loss_gradient, normalised, random_directions, unit


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none")


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(1) / 2


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def curved_pair() -> tuple[nn.Module, nn.Module]:
    """A smooth F with batch normalisation, and a smooth G, both in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 5)).double()
        decoder = nn.Sequential(nn.Linear(3, 10), nn.Tanh(), nn.Linear(10, 12), nn.Sigmoid()).double()
        network(torch.rand(64, 12, dtype=torch.float64))  # running statistics that are not the initial ones
    return network.eval(), decoder.eval().requires_grad_(False)


@pytest.fixture
def points() -> Tensor:
    return torch.randn(9, 3, dtype=torch.float64, generator=seeded())


@pytest.fixture
def classes() -> Tensor:
    return torch.arange(9) % 5


def test_linear_maps_and_quadratic_loss_have_the_gradient_of_the_textbook(points: Tensor) -> None:
    """L = |B(Ap + c) - y|^2 / 2 has dL/dp = A'B'(B(Ap + c) - y)."""
    a, b = (
        torch.randn(shape, dtype=torch.float64, generator=seeded(k))
        for k, shape in enumerate([(6, 3), (4, 6)])
    )
    c = torch.randn(6, dtype=torch.float64, generator=seeded(2))
    wanted = torch.randn(9, 4, dtype=torch.float64, generator=seeded(3))
    network = nn.Linear(6, 4, bias=False).double()
    network.weight.data = b
    got = loss_gradient(network, lambda p: p @ a.T + c, squared, points, wanted)
    torch.testing.assert_close(got, ((points @ a.T + c) @ b.T - wanted) @ b @ a)


def test_softmax_regression_has_the_gradient_of_the_textbook(points: Tensor, classes: Tensor) -> None:
    """Cross entropy of logits W p has dL/dp = W'(softmax(W p) - onehot(y))."""
    network = nn.Linear(3, 5, bias=False).double()
    weight = network.weight.detach()
    residual = (points @ weight.T).softmax(1) - functional.one_hot(classes, 5)
    got = loss_gradient(network, lambda p: p, cross_entropy, points, classes)
    torch.testing.assert_close(got, residual @ weight)


def test_each_row_is_the_gradient_of_its_own_samples_loss(points: Tensor, classes: Tensor) -> None:
    network, decoder = curved_pair()
    got = loss_gradient(network, decoder, cross_entropy, points, classes)
    for k in range(len(points)):
        alone = points[k : k + 1].clone().requires_grad_()
        cross_entropy(network(decoder(alone)), classes[k : k + 1]).sum().backward()
        torch.testing.assert_close(got[k : k + 1], alone.grad)


def test_gradient_agrees_with_finite_differences(points: Tensor, classes: Tensor) -> None:
    network, decoder = curved_pair()

    def losses(at: Tensor) -> Tensor:
        with torch.no_grad():
            return cross_entropy(network(decoder(at)), classes)

    steps = 1e-6 * torch.eye(3, dtype=torch.float64)
    slopes = torch.stack([(losses(points + s) - losses(points - s)) / 2e-6 for s in steps], 1)
    got = loss_gradient(network, decoder, cross_entropy, points, classes)
    torch.testing.assert_close(got, slopes, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("count", [1, latent.CHUNK, latent.CHUNK + 1, 2 * latent.CHUNK + 7])
def test_working_in_parts_changes_nothing(count: int) -> None:
    network, decoder = curved_pair()
    points = torch.randn(count, 3, dtype=torch.float64, generator=seeded())
    classes = torch.randint(5, (count,), generator=seeded(1))
    whole = points.clone().requires_grad_()
    cross_entropy(network(decoder(whole)), classes).sum().backward()
    torch.testing.assert_close(loss_gradient(network, decoder, cross_entropy, points, classes), whole.grad)


def test_nothing_but_the_gradient_is_left_behind(points: Tensor, classes: Tensor) -> None:
    network, decoder = curved_pair()
    before = copy.deepcopy(network.state_dict())
    loss_gradient(network, decoder, cross_entropy, points, classes)
    assert all(p.grad is None for p in network.parameters())
    assert points.grad is None
    assert not points.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1e-10, 1.0, 1e20, 5e37])
def test_unit_keeps_the_direction_at_every_scale(scale: float) -> None:
    """Squares of float32 numbers below 1e-23 or above 1e19 leave its range; directions must not."""
    vectors = torch.tensor([[3.0, -4.0, 0.0], [1.0, 1.0, 1.0]])
    scaled = (vectors.double() * scale).float()
    exact = scaled.double() / scaled.double().norm(dim=1, keepdim=True)
    torch.testing.assert_close(unit(scaled).double(), exact, rtol=1e-6, atol=1e-7)


def test_normalised_gradients_are_equation_2() -> None:
    gradients = torch.randn(50, 7, generator=seeded()) * torch.logspace(-30, 15, 50).unsqueeze(1)
    got = normalised(gradients, seeded(1))
    assert (got.zero, got.not_finite) == (0, 0)
    exact = gradients.double() / gradients.double().norm(dim=1, keepdim=True)
    torch.testing.assert_close(got.vectors.double(), exact, rtol=1e-5, atol=1e-6)


def test_points_without_a_usable_gradient_go_off_at_random_and_are_counted() -> None:
    gradients = torch.randn(8, 3, generator=seeded())
    kept = [0, 2, 4, 6]
    broken = gradients.clone()
    broken[1] = 0.0
    broken[3, 1] = math.nan
    broken[5, 0] = math.inf
    broken[7] = -math.inf
    got, again, whole = (normalised(g, seeded(1)) for g in (broken, broken, gradients))
    assert (got.zero, got.not_finite) == (1, 3)
    torch.testing.assert_close(got.vectors.norm(dim=1), torch.ones(8))
    assert torch.equal(got.vectors, again.vectors)
    assert torch.equal(got.vectors[kept], whole.vectors[kept])
    assert len({tuple(row.tolist()) for row in got.vectors}) == 8
    assert not torch.equal(got.vectors, normalised(broken, seeded(2)).vectors)


def test_one_broken_gradient_does_not_shift_what_is_drawn_afterwards() -> None:
    gradients = torch.randn(4, 3, generator=seeded())
    broken = gradients.index_fill(0, torch.tensor([1]), 0.0)
    following = []
    for given in (gradients, broken):
        draws = seeded(5)
        normalised(given, draws)
        following.append(torch.rand(3, generator=draws))
    assert torch.equal(*following)


def test_random_directions_are_uniform_on_the_sphere() -> None:
    """Archimedes: on the sphere in three dimensions each coordinate is uniform on [-1, 1]."""
    directions = random_directions(torch.empty(4000, 3), seeded())
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(4000))
    for axis in directions.double().T:
        assert stats.kstest(axis.numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    on_a_circle = random_directions(torch.empty(4000, 2), seeded(1)).double()
    angles = torch.atan2(*on_a_circle.T).numpy()
    assert stats.kstest(angles, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-3


def test_in_one_dimension_a_direction_is_a_sign() -> None:
    signs = random_directions(torch.empty(1000, 1), seeded())
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}
    assert stats.binomtest(int((signs > 0).sum()), 1000).pvalue > 1e-3
