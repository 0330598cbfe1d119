"""A generator's figures against closed forms, scipy, scikit-learn and generators whose faults are known."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from alss_ray import reading
from alss_ray.experiment import Run
from alss_ray.generators import Embedding, Vae
from alss_ray.generators.judge import gaussianity, judged, nearness, pictures
from alss_ray.generators.store import GeneratorStore
from alss_ray.generators.verdicts import print_generators
from alss_ray.labelled import LabelledSet
from alss_ray.materials import materials
from alss_ray.places import Place
from alss_ray.strategies import Random, Snn
from alss_ray.tasks import Digits

RNG = np.random.default_rng(0)


def normal(count: int, n: int) -> Tensor:
    return torch.from_numpy(RNG.standard_normal((count, n))).float()


# --- how Gaussian the codes are --------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 0.7, 5.0])
def test_the_energy_distance_is_scipys_in_one_dimension(shift: float) -> None:
    codes = 1.5 * normal(900, 1) + shift
    theirs = stats.energy_distance(codes[:, 0].numpy(), RNG.standard_normal(400_000))
    assert gaussianity(codes)["energy_distance"] == pytest.approx(theirs, abs=0.03)


@pytest.mark.parametrize("n", [2, 16, 64])
@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_energy_distance_is_that_of_its_definition(n: int, scale: float) -> None:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, the long way over all pairs of two samples."""
    codes = scale * normal(800, n) + 0.3
    x, y = codes.double().numpy(), RNG.standard_normal((3000, n))
    between = 2 * cdist(x, y).mean()
    within_x = cdist(x, x).sum() / (800 * 799)
    within_y = cdist(y, y).sum() / (3000 * 2999)
    got = gaussianity(codes)
    square = between - within_x - within_y
    assert got["energy_distance"] ** 2 == pytest.approx(square, abs=0.01 * between)
    assert got["energy_coefficient"] == pytest.approx(square / between, abs=0.01)


def test_codes_of_the_prior_look_like_it_and_collapsed_ones_do_not() -> None:
    prior = gaussianity(normal(5000, 3))
    assert prior["energy_coefficient"] < 0.005
    assert prior["code_mean_length"] < 0.1
    assert 0.95 < prior["code_sd_least"] <= prior["code_sd_most"] < 1.05
    flat = gaussianity(normal(5000, 3) * torch.tensor([1.0, 0.01, 1.0]))
    assert flat["code_sd_least"] == pytest.approx(0.01, rel=0.05)
    assert flat["energy_coefficient"] > 0.01
    far = gaussianity(normal(500, 3) + 300.0)
    assert far["energy_coefficient"] == pytest.approx(1.0, abs=0.02)
    assert far["code_mean_length"] == pytest.approx(300 * 3**0.5, rel=0.01)


def test_mean_and_covariance_are_numpys() -> None:
    codes = normal(700, 3) @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 2.0, 0.0], [0.3, 0.0, 0.1]]) + 1.0
    got = gaussianity(codes)
    np.testing.assert_allclose(got["code_mean"], codes.numpy().mean(0), atol=1e-5)
    covariance = np.cov(codes.double().numpy().T)
    np.testing.assert_allclose(np.reshape(got["code_covariance"], (3, 3)), covariance, rtol=1e-6)
    least, *_, most = np.linalg.svd(codes.numpy() - codes.numpy().mean(0))[1][::-1] / 699**0.5
    assert (got["code_sd_least"], got["code_sd_most"]) == pytest.approx((least, most), rel=1e-4)


# --- classes nearby --------------------------------------------------------------------------------------


def test_neighbours_are_scikit_learns() -> None:
    codes, targets = normal(200, 4), torch.from_numpy(RNG.integers(0, 5, 200))
    found = NearestNeighbors(n_neighbors=5).fit(codes.numpy()).kneighbors(return_distance=False)
    got = nearness(codes, targets)
    assert got["near_same_class"] == pytest.approx(
        (targets.numpy()[found] == targets.numpy()[:, None]).mean()
    )
    pairs = targets.numpy()[:, None] == targets.numpy()
    assert got["near_by_chance"] == pytest.approx((pairs.sum() - 200) / (200 * 199))


def test_samples_that_share_a_code_are_not_their_own_neighbours() -> None:
    """Thirty samples in one place, each of a class of its own: no neighbour is of the same class."""
    assert nearness(torch.zeros(30, 2), torch.arange(30))["near_same_class"] == 0
    assert nearness(torch.zeros(3, 2), torch.zeros(3).long()) == {
        "near_count": 2, "near_same_class": 1.0, "near_by_chance": 1.0,
    }  # fmt: skip
    assert nearness(torch.zeros(1, 2), torch.zeros(1).long()) == {}


# --- generators whose faults are known -------------------------------------------------------------------


class Flat(nn.Module):
    """E(x): the image itself, a point of as many numbers as pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return 4 * images.flatten(1) - 2


class Back(nn.Module):
    """G(p): the image again, plus an error."""

    def __init__(self, error: float) -> None:
        super().__init__()
        self.error = error

    def forward(self, points: Tensor) -> Tensor:
        return (points + 2).unflatten(1, (1, 2, 2)) / 4 + self.error


@dataclass(frozen=True)
class Halves(Digits):
    """Two classes: whether the left half is brighter."""

    def network(self) -> nn.Module:
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        with torch.no_grad():
            network[1].weight.copy_(torch.tensor([[1.0, -1, 1, -1], [-1, 1, -1, 1]]))
            network[1].bias.zero_()
        return network


def figures(error: float = 0.0, alpha: float = 0.5, spread: float = 1.0) -> dict[str, Any]:
    pool = (spread * torch.from_numpy(RNG.integers(0, 256, (600, 1, 2, 2)))).to(torch.uint8)
    test = (spread * torch.from_numpy(RNG.integers(0, 256, (80, 1, 2, 2)))).to(torch.uint8)
    embedding = Embedding.of(Flat(), Back(error), pool, torch.device("cpu"))
    targets = (pool[:, 0, :, 1].sum(1) > pool[:, 0, :, 0].sum(1)).long()
    sets = []
    for rows in (torch.arange(50), torch.arange(50, 150)):
        empty = LabelledSet.empty(pool)
        sets.append(
            empty.append(pool[rows], targets[rows], rows, 1, made=False, points=embedding.codes[rows])
        )
    task = Halves()
    found = judged(embedding, task.network(), task, *sets, pool, test, alpha)
    return found | pictures(embedding, test) | {"test": test, "pool": pool}


def test_a_perfect_generator_rebuilds_everything() -> None:
    got = figures()
    assert got["reconstruction_rmse"] == pytest.approx(0, abs=1e-6)
    assert got["decoded_agreement"] == 1
    mean = got["pool"].numpy().mean(0)
    assert got["mean_image_rmse"] == pytest.approx(
        np.sqrt(np.mean((got["test"].numpy() - mean) ** 2)) / 255, rel=1e-5
    )
    assert got["near_same_class"] > got["near_by_chance"] + 0.2


def test_an_error_of_the_generator_is_its_error() -> None:
    assert figures(error=0.1)["reconstruction_rmse"] == pytest.approx(0.1, rel=1e-4)


def test_long_steps_leave_the_data_and_short_ones_do_not() -> None:
    near, middling, far = (figures(alpha=alpha) for alpha in (0.005, 1.0, 50.0))
    assert far["gradient_left_share"] == far["random_left_share"] == 1
    assert near["gradient_left_share"] == near["random_left_share"] == 0
    assert far["random_gap"] == pytest.approx(50, rel=0.1)
    assert far["step_length"] == 50
    # Short steps reach no other sample; middling ones mostly do.
    assert near["gradient_stuck_share"] == near["random_stuck_share"] == 1
    assert near["gradient_gap"] == pytest.approx(0.005, rel=1e-3)
    assert middling["random_stuck_share"] < 0.5
    assert not {"random_gap", "step_length"} & set(figures(alpha=0.0))


def test_pictures_are_the_images_that_they_say() -> None:
    got = figures()
    shape = (got["shown"], *got["image_shape"])
    originals, rebuilt, fresh = (
        np.frombuffer(got[name], np.uint8).reshape(shape) for name in ("originals", "rebuilt", "fresh")
    )
    assert np.array_equal(originals, rebuilt)
    assert originals.tobytes() == got["test"][np.linspace(0, 79, 7).astype(int)].numpy().tobytes()
    walks = np.frombuffer(got["walks"], np.uint8).reshape(3, *shape).astype(float)
    for k, walk in enumerate(walks):
        assert np.array_equal(walk[0], originals[2 * k])
        assert np.array_equal(walk[-1], originals[2 * k + 1])
        assert np.abs(walk[3] - (walk[0] + walk[-1]) / 2).max() <= 1
    assert len(np.unique(fresh)) > 5


# --- in an experiment ------------------------------------------------------------------------------------


def test_an_experiment_records_and_prints_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = materials(Digits())
    for seed in (0, 1):
        going = dataclasses.replace(tiny(seed=seed), generator=Vae(generator_iterations=400))
        list(Run(going, shared, tmp_path, GeneratorStore(tmp_path / "stock")).rounds())
    list(Run(tiny(strategy=Random()), shared, tmp_path, GeneratorStore(tmp_path / "stock")).rounds())
    rows = reading.read("generators", [tmp_path]).table.to_pylist()
    assert sorted(row["seed"] for row in rows) == [0, 1]
    assert [row["t"] for row in rows] == [3, 3]
    assert len({row["generator_key"] for row in rows}) == 1
    assert rows[0]["step_length"] == Snn().alpha
    assert all(0 < row["reconstruction_rmse"] < row["mean_image_rmse"] < 0.5 for row in rows)
    print_generators(Place(tmp_path))
    told = capsys.readouterr().out
    assert "vae, n = 3" in told
    assert rows[0]["generator_key"][:8] in told
    assert "no better than their mean" not in told


def test_a_generator_that_learnt_nothing_and_steps_that_are_too_long_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    going = dataclasses.replace(tiny(strategy=Snn(alpha=100.0)), generator=Vae(generator_iterations=1))
    list(Run(going, materials(Digits()), tmp_path, GeneratorStore(tmp_path / "stock")).rounds())
    print_generators(Place(tmp_path))
    told = capsys.readouterr().out
    assert "no better than their mean does; give it more --generator-iterations." in told
    assert "100% of the steps leave the data; lower --alpha." in told
