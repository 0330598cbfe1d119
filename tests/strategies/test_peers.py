"""The peers: against scikit-activeml, against definitions written out the long way, and against the contract."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers import lasting, tiny
from skactiveml.pool import CoreSet as TheirCoreSet
from skactiveml.pool import uncertainty_scores
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from alss_ray.config import UsageError
from alss_ray.experiment import Run
from alss_ray.generators.store import GeneratorStore
from alss_ray.materials import materials
from alss_ray.oracles.base import ImageBatch, Labels
from alss_ray.places import Place
from alss_ray.strategies import STRATEGIES, Random
from alss_ray.strategies.badge import Seeds
from alss_ray.strategies.base import View
from alss_ray.strategies.cluster_margin import in_turn
from alss_ray.strategies.committee import in_proportion, variance
from alss_ray.strategies.covering import d_squared, k_centre
from alss_ray.strategies.gradient_length import gradient_lengths
from alss_ray.strategies.lcmd import largest_cluster
from alss_ray.strategies.outputs import features, probabilities
from alss_ray.strategies.si_committee import TrustRegion, variance_gradient
from alss_ray.strategies.typiclust import TypiClust
from alss_ray.tasks import Digits, TaskData
from alss_ray.tasks.base import to_unit
from alss_ray.testing import check_strategy, situation


@dataclass(frozen=True)
class Blur:
    """Labels an image with its blurred copy."""

    version: ClassVar[str] = "1"

    def label(self, images: ImageBatch) -> Labels:
        return Labels(avg_pool2d(to_unit(images.images), 3, 1, 1))


@dataclass(frozen=True)
class Blurred(Digits):
    """Maps to learn: the digits in, blurred digits out, labelled on demand."""

    name: ClassVar[str] = "test_peers:Blurred"
    metric: ClassVar[str] = "MSE"
    higher_is_better: ClassVar[bool] = False

    def load(self) -> TaskData:
        data, oracle = super().load(), Blur()
        rows = torch.arange(len(data.test_images))
        targets = oracle.label(ImageBatch(data.test_images, rows)).values
        return TaskData(data.images, data.test_images, targets, oracle, Path("unused"))

    def network(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(4, 1, 3, padding=1))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean((1, 2, 3))

    score = loss

    def guess(self, images: Tensor, targets: Tensor) -> float:
        return targets.var().item()


def options(name: str) -> dict[str, Any]:
    return {"most_clusters": 8} if name == "typiclust" else {}


NAMES = [
    (name, task)
    for name, kind in STRATEGIES.items()
    for task in (Digits(), Blurred())
    if kind.learns in ("anything", "classes" if type(task) is Digits else "maps")
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("name", "task"), NAMES, ids=lambda part: part if isinstance(part, str) else part.metric
)
def test_every_strategy_conforms(name: str, task: Digits) -> None:
    check_strategy(STRATEGIES[name](**options(name)), task)


@pytest.fixture(scope="module")
def view() -> View:
    return situation(Digits(), committee=3)


@pytest.fixture(scope="module")
def maps() -> View:
    return situation(Blurred(), committee=3)


def proposed(name: str, view: View, count: int = 30, **chosen: Any) -> list[int]:
    return STRATEGIES[name](**chosen).propose(view, count, seeded()).indices.tolist()


# --- uncertainty -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("least_confidence", "least_confident"), ("margin", "margin_sampling"), ("entropy", "entropy")],
)
def test_uncertainty_agrees_with_scikit_activeml(name: str, theirs: str, view: View) -> None:
    free = view.free.nonzero()[:, 0]
    p = probabilities(view.network, view.images[free])
    utility = uncertainty_scores(p.numpy(), method=theirs)
    assert proposed(name, view) == free[np.argsort(-utility, kind="stable")[:30].copy()].tolist()


def test_bald_is_the_entropy_that_disagreement_explains(view: View) -> None:
    free = view.free.nonzero()[:, 0].tolist()
    with torch.no_grad():
        image = to_unit(view.images[free])
        each = torch.stack([member(image).double().softmax(1) for member in view.members])
    # Mutual information as the mean Kullback-Leibler divergence of the members from their mean.
    mean = each.mean(0)
    information = (each * (each / mean).log()).sum(2).mean(0)
    best = information.argsort(descending=True, stable=True)[:30]
    assert proposed("bald", view) == [free[k] for k in best.tolist()]


# --- diversity -------------------------------------------------------------------------------------------


def test_core_set_agrees_with_scikit_activeml(view: View) -> None:
    free = view.free.nonzero()[:, 0]
    known = features(view.network, view.labelled.images)
    points = features(view.network, view.images[free])
    everything = torch.cat([known, points]).numpy().astype(np.float64)
    y = np.array([0.0] * len(known) + [np.nan] * len(points))
    theirs = TheirCoreSet(random_state=0).query(everything, y, batch_size=30) - len(known)
    assert proposed("core_set", view) == free[theirs].tolist()


def test_k_centre_without_centres_begins_in_the_middle_and_never_repeats() -> None:
    line = torch.tensor([[0.0], [1.0], [2.0], [2.0], [10.0]])
    assert k_centre(line, line[:0], 5).tolist() == [2, 4, 0, 1, 3]


def test_badge_measures_gradients_of_the_last_layer(view: View) -> None:
    rows = view.free.nonzero()[:6, 0]
    layer = view.network[-1]  # type: ignore[index]
    gradients = []
    for image in to_unit(view.images[rows]):
        logits = view.network(image[None])
        slope = torch.autograd.grad(cross_entropy(logits, logits.argmax(1)), layer.weight)[0]
        gradients.append(slope.flatten().double())
    expected = torch.cdist(torch.stack(gradients), torch.stack(gradients)).square()
    p = probabilities(view.network, view.images[rows])
    slopes = p - torch.eye(10, dtype=torch.float64)[p.argmax(1)]
    seeds = Seeds(slopes, features(view.network, view.images[rows]).double())
    found = torch.stack([seeds.gaps_to(k) for k in range(6)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_seeds_are_drawn_by_squared_distance() -> None:
    line = torch.tensor([0.0, 1.0, 2.0, 4.0])
    draws = Counter(
        int(d_squared(0, lambda k: (line - line[k]).square(), 2, seeded(s))[1]) for s in range(4000)
    )
    assert draws[0] == 0
    for k, share in ((1, 1 / 21), (2, 4 / 21), (3, 16 / 21)):
        assert abs(draws[k] / 4000 - share) < 0.03
    same = torch.zeros(4)
    assert len(set(d_squared(1, lambda k: same, 3, seeded()).tolist())) == 3  # all coincide: no repeats


def test_typiclust_takes_the_densest_sample_of_clusters_without_labels(view: View) -> None:
    """Six far blobs, two of them labelled: the four others are asked first, each at its middle."""
    assert view.embedding is not None
    codes = torch.randn(600, 2, generator=seeded(3)) * 0.3
    codes += torch.arange(600).remainder(6)[:, None] * torch.tensor([10.0, 3.0])
    for k in range(6):  # one sample of each blob is moved into its middle
        codes[k] = codes[k::6].mean(0)
    free = torch.ones(600, dtype=torch.bool)
    free[[6, 7]] = False
    known = view.labelled.take(torch.tensor([0, 1]))
    known = type(known)(**{**known.__dict__, "indices": torch.tensor([6, 7])})
    embedding = type(view.embedding)(view.embedding.encoder, view.embedding.decoder, codes)
    given = type(view)(**{**view.__dict__, "embedding": embedding, "free": free, "labelled": known})
    found = TypiClust(most_clusters=6).propose(given, 4, seeded()).indices
    assert sorted((found % 6).tolist()) == [2, 3, 4, 5]
    centres = torch.stack([codes[k::6].mean(0) for k in range(6)])
    assert (codes[found] - centres[found % 6]).norm(dim=1).max() < 0.3


def test_clusters_take_turns_from_the_smallest() -> None:
    cluster = np.array([0, 0, 0, 1, 2, 2])
    assert in_turn(cluster, 6).tolist() == [3, 4, 0, 5, 1, 2]
    assert in_turn(cluster, 2).tolist() == [3, 4]


def test_the_largest_cluster_gives_its_farthest_sample() -> None:
    points, centres = torch.randn(40, 3, generator=seeded(1)), torch.randn(4, 3, generator=seeded(2))
    left, known, expected = list(range(40)), list(centres), []
    for _ in range(12):  # the definition, the long way
        clusters: list[list[tuple[float, int]]] = [[] for _ in known]
        for k in left:
            gap, owner = min((float((points[k] - c).square().sum()), i) for i, c in enumerate(known))
            clusters[owner].append((gap, k))
        _, best = max(max(clusters, key=lambda cluster: sum(gap for gap, _ in cluster)))
        expected.append(best)
        left.remove(best)
        known.append(points[best])
    assert largest_cluster(points, centres, 12).tolist() == expected


# --- committees ------------------------------------------------------------------------------------------


def test_the_committees_variance_is_that_of_its_maps(maps: View) -> None:
    images = maps.images[:20]
    with torch.no_grad():
        answers = np.stack([member(to_unit(images)).numpy().astype(np.float64) for member in maps.members])
    np.testing.assert_allclose(variance(maps, images), answers.var(0, ddof=1).mean((1, 2, 3)), rtol=1e-5)


def test_draws_in_proportion_take_each_sample_by_its_score() -> None:
    scores = torch.tensor([1.0, 2.0, 7.0, 0.0])
    first = Counter(int(in_proportion(scores, 2, seeded(s))[0]) for s in range(4000))
    for k, share in enumerate((0.1, 0.2, 0.7, 0.0)):
        assert abs(first[k] / 4000 - share) < 0.03
    assert sorted(in_proportion(scores, 4, seeded()).tolist()) == [0, 1, 2, 3]


def test_gradient_lengths_are_those_of_each_sample_alone(maps: View) -> None:
    images, teacher = maps.images[:5], maps.members[1]
    layer = maps.network[-1]  # type: ignore[index]
    expected = []
    for image in to_unit(images):
        wanted = teacher(image[None]).detach()
        loss = maps.loss(maps.network(image[None]), wanted).sum()
        slopes = torch.autograd.grad(loss, list(layer.parameters()))
        expected.append(sum(slope.square().sum() for slope in slopes).sqrt())
    torch.testing.assert_close(gradient_lengths(maps, images, teacher), torch.stack(expected))


def test_the_variances_gradient_leads_uphill(maps: View) -> None:
    assert maps.embedding is not None
    points = torch.randn(6, maps.embedding.codes.shape[1], generator=seeded())

    def height(at: Tensor) -> Tensor:
        with torch.no_grad():
            image = maps.embedding.decoder(at)  # type: ignore[union-attr]
            return torch.stack([m(image) for m in maps.members]).double().var(0).flatten(1).mean(1)

    slope, step = variance_gradient(maps, points), 1e-3
    along = slope / slope.norm(dim=1, keepdim=True)
    measured = (height(points + step * along) - height(points - step * along)) / (2 * step)
    torch.testing.assert_close(measured.float(), slope.norm(dim=1), rtol=0.05, atol=1e-6)


@pytest.mark.parametrize("name", ["si_core_set", "si_committee"])
def test_what_is_refused_again_and_again_is_replaced_by_a_plain_draw(name: str, maps: View) -> None:
    strategy = STRATEGIES[name]()
    points = strategy.propose(dataclasses.replace(maps, refill=4), 3, seeded()).points
    plain = strategy.draw(maps.embedding, 3, seeded())
    assert sorted(points.tolist()) == sorted(plain.tolist())


def test_the_trust_region_holds_nearly_all_codes_and_draws_the_rest_to_its_border() -> None:
    codes = torch.randn(2000, 3, generator=seeded()) * torch.tensor([1.0, 5.0, 0.2]) + 2
    region = TrustRegion(codes)
    moved = region.nearest(codes)
    assert torch.isclose(moved, codes).all(1).float().mean() == pytest.approx(0.99, abs=0.001)
    far = region.nearest(codes.mean(0) + 100 * codes.std(0) * torch.eye(3))
    inside = ((far - codes.mean(0)) / codes.std(0)).norm(dim=1)
    torch.testing.assert_close(inside, region.radius.expand(3))


def folder_run(folder: Path, strategy: Any, rounds: int | None = None) -> None:
    """As many rounds as are asked for of an experiment on maps, in one process's go."""
    going = tiny(Blurred(), strategy)
    run = Run(going, materials(going.task), folder, GeneratorStore(Place(folder / "cache")))
    for done, _ in enumerate(run.rounds(), 1):
        if done == rounds:
            return


def test_a_resumed_committee_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    chosen = STRATEGIES["committee"](chosen="proportional")
    folder_run(tmp_path / "whole", chosen)
    for _ in range(3):
        folder_run(tmp_path / "parts", chosen, rounds=1)
    folder_run(tmp_path / "parts", chosen)
    assert lasting("rounds", tmp_path / "parts").equals(lasting("rounds", tmp_path / "whole"))


def test_members_leave_f_alone_and_differ_from_it(tmp_path: Path) -> None:
    """The first round is a random draw in both, so that F learns the same with a committee beside it as without."""
    folder_run(tmp_path / "committee", STRATEGIES["committee"]())
    folder_run(tmp_path / "random", Random())
    scores = [
        lasting("rounds", tmp_path / name).select(["t", "test_metric", "train_loss"]).to_pylist()
        for name in ("committee", "random")
    ]
    assert scores[0][0] == scores[1][0]
    assert scores[0][1] != scores[1][1]


def test_a_strategy_for_other_labels_is_refused_in_a_sentence() -> None:
    for name, task in (("margin", Blurred()), ("committee", Digits())):
        experiment = tiny(task, STRATEGIES[name]())
        with pytest.raises(UsageError, match=f"strategy {name} needs labels that are"):
            Run(experiment, materials(task), Path("unused"), GeneratorStore(Place("unused")))
