"""Sampling by interpolation on embeddings small enough to say by hand which images must be made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial import cKDTree
from torch import Tensor, nn

from alss_ray.config import UsageError
from alss_ray.generators import Embedding
from alss_ray.labelled import LabelledSet
from alss_ray.strategies import Query, Si, View

WEIGHTS = torch.tensor([3.0, 4.0])
TOWARDS = np.array([0.6, 0.8])
CODES = torch.randn(500, 2, generator=torch.Generator().manual_seed(9)) @ torch.tensor(
    [[2.0, 1.0], [0.0, 0.5]]
)
CODES += torch.tensor([3.0, -1.0])


class Slope(nn.Module):
    """F on images of two pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ WEIGHTS


class Pixels(nn.Module):
    """G: the point itself as two pixels, a tenth as large and with one half for 0."""

    def forward(self, points: Tensor) -> Tensor:
        return (points / 10 + 0.5).view(-1, 1, 1, 2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(points: Tensor) -> np.ndarray:
    """The images of points as bytes, by hand."""
    return np.rint(np.clip(points.numpy().astype(np.float64) / 10 + 0.5, 0, 1) * 255).astype(np.uint8)


def view(
    points: Tensor | None = None,
    targets: Tensor | None = None,
    rounds: list[int] | None = None,
    t: int = 2,
    codes: Tensor = CODES,
    loss: Callable[[Tensor, Tensor], Tensor] = lambda outputs, targets: (outputs - targets).square(),
) -> View:
    """Round t with `points` labelled before it."""
    images = torch.zeros(len(codes), 1, 1, 2, dtype=torch.uint8)
    known = LabelledSet.empty(images)
    if points is not None:
        made = torch.from_numpy(drawn(points)).view(-1, 1, 1, 2)
        nowhere = torch.full((len(points),), -1)
        known = LabelledSet(
            made,
            torch.zeros(len(points)) if targets is None else targets,
            nowhere,
            torch.tensor(rounds) if rounds else torch.ones(len(points), dtype=torch.int64),
            torch.ones(len(points), dtype=torch.bool),
            points,
        )
    free = torch.ones(len(codes), dtype=torch.bool)
    return View(
        t, Slope().eval(), images, free, ~free, known, loss, Embedding(nn.Identity(), Pixels(), codes)
    )


def ask(strategy: Si, given: View, count: int, seed: int = 0) -> Query:
    return strategy.propose(given, count, seeded(seed))


def places(query: Query) -> np.ndarray:
    assert query.points is not None
    return query.points.numpy().astype(np.float64)


# --- the first round -------------------------------------------------------------------------------------


def test_the_first_round_is_drawn_from_the_unit_normal() -> None:
    points = places(ask(Si(), view(t=1), 20_000))
    assert points.shape == (20_000, 2)
    assert np.abs(points.mean(0)).max() < 4 / 20_000**0.5
    assert np.abs(np.cov(points.T) - np.eye(2)).max() < 0.05
    for axis in (points[:, 0], points[:, 1], points @ TOWARDS):
        assert stats.kstest(axis, "norm").pvalue > 1e-3


def test_or_from_the_normal_that_fits_the_codes() -> None:
    points = places(ask(Si(spread="data"), view(t=1), 40_000))
    wanted = np.cov(CODES.numpy().T)
    assert abs(wanted[0, 1]) > 0.5, "the codes must be correlated, or this test says little"
    assert np.abs(points.mean(0) - CODES.numpy().mean(0)).max() < 0.06
    assert np.abs(np.cov(points.T) - wanted).max() < 0.05 * wanted.max()


@pytest.mark.parametrize("n", [1, 3])
def test_latent_spaces_of_one_dimension_and_dimensions_that_collapsed(n: int) -> None:
    codes = torch.zeros(400, n)
    codes[:, 0] = torch.linspace(-1, 3, 400)

    class Wide(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            return points[:, :1].sigmoid().repeat(1, 2).view(-1, 1, 1, 2)

    given = dataclasses.replace(view(t=1, codes=codes), embedding=Embedding(nn.Identity(), Wide(), codes))
    points = places(ask(Si(spread="data"), given, 5000))
    assert points.shape == (5000, n)
    assert points[:, 0].mean() == pytest.approx(1.0, abs=0.08)
    assert points[:, 0].std() == pytest.approx(codes[:, 0].std().item(), rel=0.05)
    assert np.abs(points[:, 1:]).max(initial=0) < 0.02


@pytest.mark.parametrize(
    "options", [{}, {"spread": "data"}, {"stepped_from": "fresh"}, {"direction": "random"}, {"fed": "mask"}]
)
@pytest.mark.parametrize("t", [1, 2])
def test_all_chance_comes_from_the_stream(options: dict[str, Any], t: int) -> None:
    given = view(CODES[:20], t=t) if t > 1 else view(t=1)
    torch.manual_seed(1)
    first = ask(Si(**options), given, 8)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=seeded(1)))
    again, other = ask(Si(**options), given, 8), ask(Si(**options), given, 8, seed=1)
    assert np.array_equal(places(first), places(again))
    assert not np.array_equal(places(first), places(other))


def test_who_fills_the_first_round() -> None:
    assert Si().fills_first_round
    assert not Si(first="real").fills_first_round
    assert Si.makes_images
    assert Si.needs_embedding


# --- images ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1, 2])
@pytest.mark.parametrize("stepped_from", ["labelled", "fresh"])
def test_images_are_those_of_the_points_and_belong_to_no_sample(t: int, stepped_from: Any) -> None:
    query = ask(Si(stepped_from=stepped_from), view(CODES[:30], t=t), 12)
    assert query.indices.tolist() == [-1] * 12
    assert query.points is not None
    assert query.images is not None
    assert query.images.dtype == torch.uint8
    assert query.images.shape == (12, 1, 1, 2)
    assert np.array_equal(query.images.view(12, 2).numpy(), drawn(query.points))
    assert query.shown is None


def test_masks_are_cut_at_one_half_and_the_oracle_sees_the_grey_image() -> None:
    grey, cut = (ask(Si(fed=fed), view(CODES[:30]), 20) for fed in ("grey", "mask"))
    assert torch.equal(grey.points, cut.points)
    assert torch.equal(cut.shown, grey.images)
    assert cut.points is not None
    assert cut.images is not None
    wanted = np.where(cut.points.numpy() >= 0, 255, 0)
    assert set(np.unique(wanted)) == {0, 255}
    assert np.array_equal(cut.images.view(20, 2).numpy(), wanted)
    assert cut.images.dtype == torch.uint8


# --- the step --------------------------------------------------------------------------------------------


def starts(given: View, count: int, **options: Any) -> np.ndarray:
    """Where the same stream steps from: the control without a step."""
    return places(ask(Si(**{"direction": "none", **options}), given, count))


@pytest.mark.parametrize("alpha", [0.5, 2.0])
@pytest.mark.parametrize("stepped_from", ["labelled", "fresh"])
def test_the_step_has_length_alpha_along_the_gradient(alpha: float, stepped_from: Any) -> None:
    """Squared error of w x / 10 + const: the gradient is 2 (F - y) w / 10, so it lies along w on either side."""
    targets = torch.tensor([-100.0, 100.0]).repeat(15)
    given = view(CODES[:30], targets)
    before = starts(given, 25, stepped_from=stepped_from)
    query = ask(Si(alpha=alpha, stepped_from=stepped_from), given, 25)
    known = {
        tuple(point): target for point, target in zip(CODES[:30].tolist(), targets.tolist(), strict=True)
    }
    if stepped_from == "labelled":
        labels = np.array([known[tuple(point)] for point in before.tolist()])
    else:
        labels = targets.numpy()[cKDTree(CODES[:30].numpy()).query(before)[1]]
        assert not {tuple(point) for point in before.tolist()} & set(known)
    sign = np.where(labels > 0, -1.0, 1.0)  # away from the label, towards higher loss
    assert set(sign) == {-1.0, 1.0}
    np.testing.assert_allclose(places(query) - before, alpha * sign[:, None] * TOWARDS, atol=1e-5)
    assert query.counts == {"zero_gradients": 0, "invalid_gradients": 0}


def test_the_raw_gradient_steps_as_far_as_it_is_long() -> None:
    given = view(CODES[:10], torch.linspace(-3, 3, 10))
    before = starts(given, 10)
    label = {
        tuple(p): y for p, y in zip(CODES[:10].tolist(), torch.linspace(-3, 3, 10).tolist(), strict=True)
    }
    outputs = (before / 10 + 0.5) @ WEIGHTS.numpy()
    misfit = outputs - np.array([label[tuple(point)] for point in before.tolist()])
    wanted = before + 0.7 * 2 * misfit[:, None] * WEIGHTS.numpy() / 10
    np.testing.assert_allclose(places(ask(Si(0.7, normalise=False), given, 10)), wanted, atol=1e-4)


def test_a_random_direction_has_the_same_length_and_goes_everywhere() -> None:
    given = view(CODES[:50])
    before = starts(given, 50)
    steps = places(ask(Si(1.5, direction="random"), given, 50)) - before
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), 1.5, rtol=1e-5)
    assert len({tuple(quarter) for quarter in (steps > 0).tolist()}) == 4


def test_without_a_step_labelled_points_come_again_each_once() -> None:
    query = ask(Si(direction="none"), view(CODES[:12]), 12)
    assert sorted(map(tuple, places(query).tolist())) == sorted(map(tuple, CODES[:12].double().tolist()))
    assert query.counts == {}
    chosen = [ask(Si(direction="none"), view(CODES[:12]), 4, seed) for seed in range(5)]
    some = {tuple(sorted(map(tuple, places(one).tolist()))) for one in chosen}
    assert len(some) > 1, "which of them must be chance"


def test_fresh_points_are_spread_as_the_first_round() -> None:
    given = view(CODES[:12])
    unit = starts(given, 5000, stepped_from="fresh")
    assert np.abs(unit.mean(0)).max() < 0.06
    assert np.abs(np.cov(unit.T) - np.eye(2)).max() < 0.1
    fitted = starts(given, 5000, stepped_from="fresh", spread="data")
    assert np.abs(fitted.mean(0) - CODES.numpy().mean(0)).max() < 0.15


def test_points_evolve_from_round_to_round_where_they_are_not_redrawn() -> None:
    """Figure 4: rounds 3 and 4 go on from where the round before ended, in its order."""
    points, rounds = CODES[:5], [1] * 5
    for t in (2, 3, 4):
        query = ask(
            Si(0.5, redraw_every=0), view(points, torch.full((len(points),), -100.0), rounds, t), 5, t
        )
        if t > 2:
            np.testing.assert_allclose(places(query), points[-5:].numpy() + 0.5 * TOWARDS, atol=1e-5)
        points, rounds = torch.cat([points, query.points]), rounds + [t] * 5
    assert points.shape == (20, 2)


def test_an_alpha_of_zero_is_told() -> None:
    with pytest.raises(UsageError, match=r"^si: alpha is 0.0; .*--direction none"):
        Si(alpha=0.0)
