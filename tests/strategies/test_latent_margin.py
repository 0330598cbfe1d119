"""Latent margin: class shares against scikit-learn's neighbours, clusters against plain cases, the limit to scoring."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from alss_ray.config import UsageError
from alss_ray.strategies import Margin
from alss_ray.strategies.base import View
from alss_ray.strategies.latent_margin import LatentMargin, class_shares, first_of_clusters
from alss_ray.tasks import Digits
from alss_ray.testing import situation
from alss_ray.training import images_seen


@pytest.fixture(scope="module")
def view() -> View:
    return situation(Digits())


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("neighbours", [1, 7, 500])
def test_shares_are_those_of_weighted_nearest_neighbours(neighbours: int) -> None:
    draws = np.random.default_rng(0)
    known, points = (draws.standard_normal((m, 5), dtype=np.float32) for m in (60, 40))
    targets = draws.integers(0, 4, 60)
    theirs = KNeighborsClassifier(
        min(neighbours, 60), algorithm="brute", weights=lambda d: np.exp(-((d / d[:, -1:]) ** 2))
    ).fit(known, targets)
    ours = class_shares(*map(torch.from_numpy, (points, known, targets)), neighbours)
    np.testing.assert_allclose(ours, theirs.predict_proba(points), atol=1e-5)
    assert ours.dtype == torch.float64


def test_a_point_on_a_labelled_one_has_its_class() -> None:
    known = torch.zeros(3, 2)
    ours = class_shares(known[:1], known, torch.tensor([1, 1, 1]), 3)
    assert ours.tolist() == [[0.0, 1.0]]
    first = class_shares(known[:1], known, torch.tensor([0, 0, 0]), 3)
    assert first.tolist() == [[1.0, 0.0]]  # nobody has the second class yet


def test_the_hardest_of_each_cluster_is_taken() -> None:
    centres = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    of = torch.tensor([0, 0, 1, 0, 1, 2, 1, 2, 0])
    points = centres[of] + 0.1 * torch.randn(9, 2, generator=seeded())
    hardness = torch.linspace(1.0, 0.0, 9, dtype=torch.float64)  # the last weighs nothing
    assert first_of_clusters(points, hardness, 3, 0).tolist() == [0, 2, 5]


def test_clusters_that_lost_their_points_are_made_up_for_by_the_hardest() -> None:
    points = torch.zeros(6, 2)  # one place, so one cluster
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = first_of_clusters(points, torch.ones(6, dtype=torch.float64), 4, 0)
    assert chosen.tolist() == [0, 1, 2, 3]


def test_without_a_choice_it_is_margin_sampling(view: View) -> None:
    ours = LatentMargin(candidates=1).propose(view, 30, seeded())
    assert ours.indices.tolist() == Margin().propose(view, 30, seeded()).indices.tolist()


def test_neighbours_say_which_images_the_network_looks_at(view: View) -> None:
    limited = dataclasses.replace(view, offered=torch.arange(100, 160))
    assert view.embedding is not None
    free = view.free.nonzero()[:, 0]
    shares = class_shares(view.embedding.codes[free], view.labelled.points, view.labelled.targets, 10)
    two = shares.topk(2, dim=1).values
    unsure = free[(two[:, 0] - two[:, 1]).argsort(stable=True)[:60]]
    looked_at = []
    hook = view.network.register_forward_pre_hook(lambda network, given: looked_at.append(given[0]))
    with images_seen(view.members) as seen:
        chosen = LatentMargin().propose(limited, 12, seeded()).indices
    hook.remove()
    assert set(chosen.tolist()) <= set(unsure.tolist())
    assert seen.images == 60
    assert torch.equal(torch.cat(looked_at), view.images[unsure].float() / 255)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"candidates": 0}, "candidates is 0"), ({"neighbours": 0}, "neighbours is 0")],
)
def test_options_that_cannot_be_are_told(options: dict, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        LatentMargin(**options)
