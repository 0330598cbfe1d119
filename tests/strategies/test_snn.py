"""Sampling by nearest neighbour on embeddings small enough to say by hand who must be labelled next."""

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from alss_ray.generators import Embedding
from alss_ray.labelled import LabelledSet
from alss_ray.strategies import Query, Snn, View
from alss_ray.tasks import Digits
from alss_ray.tasks.base import Classification

SIDE = 21
GRID = torch.cartesian_prod(
    torch.arange(SIDE), torch.arange(SIDE)
).float()  # codes: whole numbers, row by row


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def at(x: int, y: int) -> int:
    """Index of the sample whose code is (x, y)."""
    return SIDE * x + y


class Slope(nn.Module):
    """F on images of two pixels: its output is a weighted sum of them."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weights


class Pixels(nn.Module):
    """G: the code itself as two pixels, brought to [0, 1]."""

    def forward(self, points: Tensor) -> Tensor:
        return (points / (SIDE - 1)).view(-1, 1, 1, 2)


def view(
    labelled: list[int],
    network: nn.Module | None = None,
    t: int = 2,
    rounds: list[int] | None = None,
    barred: tuple[int, ...] = (),
    codes: Tensor = GRID,
    **changes: Any,
) -> View:
    """D is the grid; the loss of a sample is F's output plus its label."""
    images = (Pixels()(codes).clamp(0, 1) * 255).round().to(torch.uint8)
    indices = torch.tensor(labelled)
    bought = torch.tensor(rounds) if rounds else torch.ones(len(labelled), dtype=torch.int64)
    free, shut = torch.ones(len(codes), dtype=torch.bool), torch.zeros(len(codes), dtype=torch.bool)
    shut[list(barred)] = True
    free[indices] = False
    known = LabelledSet(
        images[indices],
        torch.zeros(len(labelled)),
        indices,
        bought,
        torch.zeros(len(labelled)).bool(),
        codes[indices],
    )
    made = View(
        t=t,
        network=(network or Slope(1.0, 0.0)).eval(),
        images=images,
        free=free & ~shut,
        barred=shut,
        labelled=known,
        loss=lambda outputs, targets: outputs + targets,
        embedding=Embedding(nn.Identity(), Pixels(), codes),
    )
    return dataclasses.replace(made, **changes)


def ask(strategy: Snn, given: View, count: int = 1, seed: int = 0) -> Query:
    return strategy.propose(given, count, seeded(seed))


@pytest.mark.parametrize(
    ("weights", "alpha", "target"),
    [
        ((1.0, 0.0), 3.0, (13, 10)),
        ((-0.001, 0.0), 3.0, (7, 10)),
        ((0.0, 50.0), 7.0, (10, 17)),
        ((3.0, 4.0), 5.0, (13, 14)),
        ((1.0, 0.0), 3.4, (13, 10)),
        ((1.0, 0.0), 100.0, (20, 10)),
    ],
)
def test_the_step_has_length_alpha_towards_higher_loss(
    weights: tuple[float, float], alpha: float, target: tuple[int, int]
) -> None:
    """Equation 2: how steep the loss is does not matter, only where to."""
    query = ask(Snn(alpha), view([at(10, 10)], Slope(*weights)))
    assert query.indices.tolist() == [at(*target)]
    assert query.images is None
    assert query.counts == {
        "zero_gradients": 0, "invalid_gradients": 0, "already_labelled": 0, "neighbour_shortfall": 0,
    }  # fmt: skip


def test_the_raw_gradient_steps_as_far_as_it_is_long() -> None:
    """Line 10: with G = p / 20 the gradient of 60 x is 3."""
    raw = Snn(2.0, normalise=False)
    assert ask(raw, view([at(10, 10)], Slope(60.0, 0.0))).indices.tolist() == [at(16, 10)]
    assert ask(raw, view([at(10, 10)], Slope(0.0, -20.0))).indices.tolist() == [at(10, 8)]


def test_many_points_step_and_choose_as_brute_force_does() -> None:
    codes = torch.randn(2000, 2, generator=seeded(3)) * 3 + 10
    labelled = torch.randperm(2000, generator=seeded(4))[:150].tolist()
    given = view(labelled, Slope(3.0, 4.0), codes=codes)
    query = ask(Snn(1.0), given, 150)
    stepped = codes[labelled].double().numpy() + np.array([0.6, 0.8])
    tree = cKDTree(codes.double().numpy())
    plain = tree.query(stepped)[1]
    assert query.counts["already_labelled"] == np.isin(plain, labelled).sum() > 0
    chosen = query.indices.tolist()
    assert len(set(chosen)) == 150
    assert not set(chosen) & set(labelled)
    # Nobody is left over who is nearer to a stepped point than the furthest that any point had to go.
    left = [k for k in range(2000) if k not in {*chosen, *labelled}]
    gaps = cdist(stepped, codes.double().numpy())
    assert (gaps[:, chosen].min(1) <= gaps[:, left].min(1) + 1e-6).all()
    allowed = ask(Snn(1.0, exclude_labelled=False), given, 150)
    assert sorted(allowed.indices.tolist()) == sorted(plain.tolist())


def test_the_gradient_is_that_of_the_network_on_decoded_points() -> None:
    """With a real task: the points' own losses rise along the step, for nearly all of them."""
    task = Digits()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = task.network().eval()
        decoder = nn.Sequential(nn.Linear(4, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8))).requires_grad_(
            False
        )
    codes = torch.randn(400, 4, generator=seeded())
    indices, targets = torch.arange(60), torch.arange(60) % 10
    images = torch.zeros(400, 1, 8, 8, dtype=torch.uint8)
    known = LabelledSet.empty(images).append(
        images[:60], targets, indices, 1, made=False, points=codes[indices]
    )
    given = View(2, network, images, torch.arange(400) >= 60, torch.zeros(400).bool(), known,
                 Classification().loss, Embedding(nn.Identity(), decoder, codes))  # fmt: skip
    # Pools that hold nothing but each point's two ends of the step: the higher loss must be chosen.
    alpha = 1e-2
    leaf = codes[:60].clone().requires_grad_()
    task.loss(network(decoder(leaf)), targets).sum().backward()
    step = alpha * leaf.grad / leaf.grad.norm(dim=1, keepdim=True)
    both = torch.cat([codes[:60], codes[:60] + step, codes[:60] - step])
    images = torch.zeros(180, 1, 8, 8, dtype=torch.uint8)
    given = dataclasses.replace(
        given, images=images, free=torch.arange(180) >= 60, barred=torch.zeros(180).bool(),
        embedding=Embedding(nn.Identity(), decoder, both),
    )  # fmt: skip
    assert sorted(ask(Snn(alpha), given, 60).indices.tolist()) == list(range(60, 120))


@pytest.mark.parametrize("options", [{"direction": "random"}, {"direction": "none"}, {"alpha": 1e-6}])
def test_arms_of_a_comparison_start_from_the_same_points(options: dict[str, Any]) -> None:
    """With a vanishing step and repeats allowed a proposal is its own starting point."""
    given = view([at(x, 2 * x) for x in range(10)])
    settings = {"alpha": 1e-6, "exclude_labelled": False}
    gradient, control = (ask(Snn(**{**settings, **more}), given, 5) for more in ({}, options))
    assert gradient.indices.tolist() == control.indices.tolist()
    assert gradient.counts["already_labelled"] == control.counts["already_labelled"] == 5


def test_random_directions_have_the_same_length_and_go_everywhere() -> None:
    given = view([at(10, 10)])
    found = {ask(Snn(6.0, "random"), given, seed=seed).indices.item() for seed in range(60)}
    offsets = GRID[sorted(found)] - 10
    assert ((offsets.norm(dim=1) - 6).abs() <= math.sqrt(0.5)).all()
    quarters = {tuple((offset > 0).tolist()) for offset in offsets}
    assert len(quarters) == 4


def test_without_a_step_the_nearest_free_samples_are_taken() -> None:
    query = ask(Snn(direction="none"), view([at(10, 10)]))
    assert query.indices.tolist() == [at(9, 10)]  # of the four at distance 1 the lowest index
    assert query.counts == {"already_labelled": 1, "neighbour_shortfall": 0}


def test_taken_samples_are_passed_over_or_taken_again() -> None:
    both = view([at(10, 10), at(13, 10)])
    given = dataclasses.replace(both, labelled=both.labelled.take(torch.tensor([0])))
    skipping, allowing = (ask(Snn(3.2, exclude_labelled=skip), given) for skip in (True, False))
    assert skipping.indices.tolist() == [at(14, 10)]
    assert allowing.indices.tolist() == [at(13, 10)]
    assert skipping.counts["already_labelled"] == allowing.counts["already_labelled"] == 1


@pytest.mark.parametrize("skip", [True, False])
def test_validation_samples_are_never_asked_for(skip: bool) -> None:
    given = view([at(10, 10)], barred=(at(13, 10),))
    assert ask(Snn(3.2, exclude_labelled=skip), given).indices.tolist() == [at(14, 10)]


def test_decoded_images_come_with_the_index_of_their_real_neighbour() -> None:
    query = ask(Snn(3.0, decoded=True), view([at(10, 10)]))
    assert query.indices.tolist() == [at(13, 10)]
    assert query.images is not None
    assert query.images.dtype == torch.uint8
    assert query.images.flatten().tolist() == [round(13 / 20 * 255), round(10 / 20 * 255)]


def test_vanished_gradients_are_counted_and_still_step_by_alpha() -> None:
    given = view([at(10, 10), at(4, 10)], Slope(0.0, 0.0))
    query = ask(Snn(3.0), given, 2)
    assert (query.counts["zero_gradients"], query.counts["invalid_gradients"]) == (2, 0)
    offsets = cdist(GRID[query.indices].numpy(), [[10, 10], [4, 10]])
    assert (np.abs(offsets - 3).min(1) <= math.sqrt(0.5)).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("normalise", [True, False])
def test_broken_gradients_are_counted_and_leave_a_whole_query(value: float, normalise: bool) -> None:
    query = ask(Snn(3.0, normalise=normalise), view([at(10, 10), at(4, 10)], Slope(value, 0.0)), 2)
    assert query.counts["invalid_gradients"] == 2
    assert len(query.indices.unique()) == 2


@pytest.mark.parametrize("weight", [1e25, 1e37])
def test_enormous_raw_gradients_leave_a_whole_query(weight: float) -> None:
    """p + alpha g may leave the range of float32, or its square may."""
    query = ask(Snn(1e3, normalise=False), view([at(10, 10), at(4, 10)], Slope(weight, 0.0)), 2)
    assert len(query.indices.unique()) == 2
    assert query.indices.min() >= 0


def test_a_pool_that_runs_out_gives_what_it_has_and_says_so() -> None:
    free = torch.zeros(len(GRID), dtype=torch.bool)
    free[[at(0, 0), at(20, 20)]] = True
    query = ask(Snn(3.0), view([at(x, 10) for x in range(5)], free=free), 5)
    assert sorted(query.indices.tolist()) == [at(0, 0), at(20, 20)]
    assert query.counts["neighbour_shortfall"] == 3


def test_more_points_than_labelled_samples_are_drawn_evenly() -> None:
    """With repeats allowed and no step, the proposals are the points themselves."""
    labelled = [at(x, x) for x in range(4)]
    query = ask(Snn(direction="none", exclude_labelled=False), view(labelled), 10)
    times = query.indices.bincount(minlength=len(GRID))[labelled]
    assert times.sum() == 10
    assert times.min() >= 2
    assert times.max() <= 3


def starts(redraw_every: int, t: int, seed: int) -> list[int]:
    """The points that round t steps from: rounds 1 to t-1 have bought four samples each."""
    labelled = [at(x, y) for x in range(t - 1) for y in range(4)]
    rounds = [x + 1 for x in range(t - 1) for _ in range(4)]
    strategy = Snn(direction="none", exclude_labelled=False, redraw_every=redraw_every)
    return sorted(ask(strategy, view(labelled, t=t, rounds=rounds), 4, seed).indices.tolist())


@pytest.mark.parametrize(
    ("redraw_every", "fresh"),
    [(1, {2, 3, 4, 5, 6}), (2, {2, 4, 6}), (3, {2, 5}), (0, {2})],
)
def test_points_are_drawn_afresh_or_go_on_from_the_last_round(redraw_every: int, fresh: set[int]) -> None:
    for t in range(2, 7):
        last = [at(t - 2, y) for y in range(4)]
        drawn = [starts(redraw_every, t, seed) for seed in range(6)]
        if t in fresh and t > 2:
            assert len({tuple(one) for one in drawn}) > 1, t
            assert any(set(one) - set(last) for one in drawn), t
        else:
            assert drawn == [last] * 6, t


def test_points_that_evolve_move_on_step_by_step() -> None:
    """Figure 4: three rounds of two walk the same way."""
    labelled, rounds = [at(5, 5)], [1]
    for t in (2, 3, 4):
        query = ask(Snn(2.0, redraw_every=0), view(labelled, t=t, rounds=rounds))
        labelled, rounds = [*labelled, *query.indices.tolist()], [*rounds, t]
    assert labelled == [at(5, 5), at(7, 5), at(9, 5), at(11, 5)]


@pytest.mark.parametrize("options", [{}, {"direction": "random"}, {"normalise": False}, {"decoded": True}])
def test_all_chance_comes_from_the_stream_and_nothing_is_changed(options: dict[str, Any]) -> None:
    given = view([at(x, 3 * x % 20) for x in range(20)], Slope(1.0, 2.0))
    before = {
        f.name: copy.deepcopy(getattr(given, f.name)) for f in dataclasses.fields(View) if f.name != "loss"
    }
    torch.manual_seed(1)
    first = ask(Snn(2.0, **options), given, 8)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=seeded(1)))
    again, other = ask(Snn(2.0, **options), given, 8), ask(Snn(2.0, **options), given, 8, seed=1)
    assert first.indices.tolist() == again.indices.tolist() != other.indices.tolist()
    for name in ("images", "free", "barred"):
        assert torch.equal(getattr(given, name), before[name]), name
    assert torch.equal(given.embedding.codes, before["embedding"].codes)
    assert torch.equal(given.labelled.indices, before["labelled"].indices)
    assert torch.equal(given.network.weights, before["network"].weights)
    assert given.network.weights.grad is None
