"""Paths and planes against closed forms, scikit-learn, scipy and the task's own data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import lasting, tiny
from scipy.spatial import cKDTree
from scipy.special import log_softmax, softmax
from sklearn.decomposition import PCA
from torch import nn
from torch.nn import functional

from alss_ray import reading
from alss_ray.config import Experiment
from alss_ray.experiment import Run
from alss_ray.generators import Vae
from alss_ray.generators.base import Embedding
from alss_ray.generators.store import GeneratorStore
from alss_ray.labelled import LabelledSet
from alss_ray.materials import Materials, materials
from alss_ray.oracles import DatasetOracle, ImageBatch, Labels
from alss_ray.strategies import Snn
from alss_ray.tasks import Digits
from alss_ray.trajectories import plane_row, principal_plane

CLASSES, PIXELS = 3, 16


@pytest.mark.parametrize("n", [3, 8])
def test_the_plane_is_that_of_scikit_learns_principal_components(n: int) -> None:
    codes = torch.randn(500, n, generator=torch.Generator().manual_seed(n)) * torch.arange(1, n + 1) + 2.0
    plane = principal_plane(codes)
    known = PCA(2).fit(codes.numpy())
    np.testing.assert_allclose(plane.centre, known.mean_, atol=1e-5)
    np.testing.assert_allclose(plane.shares, known.explained_variance_ratio_, rtol=1e-4)
    signs = np.sign((plane.axes.numpy() * known.components_).sum(1))
    np.testing.assert_allclose(plane.down(codes), known.transform(codes.numpy()) * signs, atol=1e-4)
    np.testing.assert_allclose(
        plane.up(plane.down(codes)), known.inverse_transform(known.transform(codes)), atol=1e-4
    )


def test_a_space_of_two_dimensions_is_drawn_as_it_is() -> None:
    codes = torch.randn(50, 2) + 3.0
    plane = principal_plane(codes)
    assert torch.equal(plane.down(codes), codes)
    np.testing.assert_allclose(plane.shares, codes.var(0) / codes.var(0).sum(), rtol=1e-5)


class LinearDecoder(nn.Module):
    """G(p) = A p + b, a 4 x 4 image."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n, PIXELS)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return self.linear(points).view(-1, 1, 4, 4)


def bare(images: torch.Tensor, codes: torch.Tensor, rows: torch.Tensor, targets: torch.Tensor) -> LabelledSet:
    empty = LabelledSet.empty(images)
    return empty.append(images[rows], targets, rows, 1, made=False, points=codes[rows])


@pytest.mark.parametrize("n", [2, 5])
def test_decisions_losses_and_gradients_over_the_plane_are_those_of_the_closed_form(n: int) -> None:
    """For softmax regression of a linear generator, dL/dp = A'W'(softmax(z) - y)."""
    torch.manual_seed(n)
    network = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, CLASSES)).eval()
    decoder, codes = LinearDecoder(n), torch.randn(300, n)
    embedding = Embedding.frozen(nn.Identity(), decoder, codes, torch.device("cpu"))
    images = torch.zeros(300, 1, 4, 4, dtype=torch.uint8)
    labelled = bare(images, codes, torch.arange(40), torch.randint(CLASSES, (40,)))
    validation = bare(images, codes, torch.arange(40, 60), torch.randint(CLASSES, (20,)))

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs, targets, reduction="none")

    row = plane_row(network, embedding, loss, labelled, validation)

    def grid(name: str, kind: str = "<f4") -> np.ndarray:
        return np.frombuffer(row[f"grid_{name}"], kind).reshape(row["grid_side"] ** 2, -1).squeeze()

    left, right, bottom, top = row["grid_extent"]
    across, upward = (np.linspace(*ends, row["grid_side"]) for ends in ((left, right), (bottom, top)))
    places = np.array([(x, y) for y in upward for x in across])
    axes = np.reshape(row["plane_axes"], (2, n))
    points = np.array(row["plane_centre"]) + places @ axes
    a, b = (part.detach().double().numpy() for part in (decoder.linear.weight, decoder.linear.bias))
    w, v = (part.detach().double().numpy() for part in (network[1].weight, network[1].bias))
    logits = (points @ a.T + b) @ w.T + v
    targets = labelled.targets.numpy()[cKDTree(codes[:40].numpy()).query(points)[1]]
    shares = softmax(logits, 1)
    ordered = np.sort(shares, 1)
    sure = ordered[:, -1] - ordered[:, -2] > 1e-3
    assert np.array_equal(grid("predicted", "<i4")[sure], logits.argmax(1)[sure])
    np.testing.assert_allclose(grid("margins"), ordered[:, -1] - ordered[:, -2], atol=1e-4)
    agreed = np.isclose(grid("losses"), -log_softmax(logits, 1)[np.arange(len(points)), targets], atol=1e-3)
    assert agreed.mean() > 0.999  # all but places as near to one sample as to another
    gradients = (shares - np.eye(CLASSES)[targets]) @ w @ a
    np.testing.assert_allclose(grid("gradients")[agreed], (gradients @ axes.T)[agreed], atol=1e-3)
    np.testing.assert_allclose(
        grid("steepness")[agreed], np.linalg.norm(gradients, axis=1)[agreed], atol=1e-3
    )
    tree = cKDTree(codes.double().numpy())
    np.testing.assert_allclose(grid("gaps"), tree.query(points)[0], atol=1e-4)
    kept = np.frombuffer(row["kept_codes"], "<f4").reshape(-1, n)
    np.testing.assert_array_equal(kept[:60], codes[:60])
    classes = np.frombuffer(row["kept_labels"], "<i4")
    assert classes[:60].tolist() == [*labelled.targets.tolist(), *validation.targets.tolist()]
    assert set(classes[60:]) == {-1}
    gaps = np.frombuffer(row["kept_gaps"], "<f4")
    np.testing.assert_allclose(gaps, tree.query(kept.astype(float), 2)[0][:, 1], atol=1e-5)


# --- in an experiment ------------------------------------------------------------------------------------


def evolving(n: int = 2, **options: Any) -> Experiment:
    experiment = tiny(strategy=Snn(redraw_every=0, alpha=0.5, **options))
    return dataclasses.replace(experiment, generator=Vae(latent_dim=n, generator_iterations=30))


def run(experiment: Experiment, folder: Path, followed: int) -> Run:
    work = Run(
        experiment,
        materials(experiment.task),
        folder,
        GeneratorStore(folder / "generators"),
        followed=followed,
    )
    for _ in work.rounds():
        pass
    return work


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[tuple[int, int], dict[str, Any]]]:
    work = run(evolving(), tmp_path_factory.mktemp("followed"), 6)
    rows = reading.read("paths", [work.folder]).table.to_pylist()
    return work, {(row["t"], row["point"]): row for row in rows}


def test_points_go_from_sample_to_sample_by_steps_of_alpha(followed: Any) -> None:
    work, rows = followed
    data, codes = Digits().load(), work.embedding.codes.double().numpy()
    tree = cKDTree(codes)
    assert [sum(t == each for each, _ in rows) for t in (1, 2, 3)] == [6, 6, 6]
    for (t, _), row in rows.items():
        sample = row["sample"]
        assert row["position"] == pytest.approx(codes[sample])
        assert row["label"] == data.oracle.targets[sample]
        assert row["image"] == data.images[sample].numpy().tobytes()
        assert row["image_shape"] == [1, 8, 8]
        decoded = work.embedding.decoder(torch.tensor([row["position"]]))[0].numpy()
        assert np.abs(np.frombuffer(row["generated"], np.uint8).reshape(1, 8, 8) - 255 * decoded).max() < 0.51
        if t == 1:
            assert row["origin"] is row["stepped"] is row["gap"] is None
            continue
        origin = rows[t - 1, row["origin"]]
        assert np.linalg.norm(np.subtract(row["stepped"], origin["position"])) == pytest.approx(0.5, rel=1e-5)
        assert row["gap"] == pytest.approx(tree.query(row["stepped"])[0], abs=1e-6)
        assert row["gap"] <= np.linalg.norm(np.subtract(row["stepped"], row["position"])) + 1e-6


def test_what_the_followed_points_are_is_what_the_experiment_bought(followed: Any) -> None:
    work, rows = followed
    bought = work.state.labelled
    for t in (2, 3):
        mine = bought.indices[bought.rounds == t][:6].tolist()
        assert [rows[t, point]["sample"] for point in range(6)] == mine
    first = bought.indices[bought.rounds == 1].tolist()
    assert all(row["sample"] == first[point] for (t, point), row in rows.items() if t == 1)


def test_following_points_changes_no_result(followed: Any, tmp_path: Path) -> None:
    work, _ = followed
    run(work.experiment, tmp_path, 0)
    assert lasting("rounds", tmp_path).equals(lasting("rounds", work.folder))
    assert not len(lasting("paths", tmp_path))


@dataclass(frozen=True)
class Choosy(DatasetOracle):
    """Refuses every third sample."""

    def label(self, images: ImageBatch) -> Labels:
        refused = (images.indices % 3 == 0).nonzero()[:, 0].tolist()
        return Labels(self.targets[images.indices], dict.fromkeys(refused, "every third"))


def test_a_replacement_of_a_refused_image_goes_on_from_where_it_came_or_begins_a_path(tmp_path: Path) -> None:
    experiment = evolving()
    data = Digits().load()
    shared = Materials(data, data.fingerprint(), Choosy(data.oracle.targets))
    work = Run(experiment, shared, tmp_path, GeneratorStore(tmp_path / "generators"), followed=10)
    assert sum(row["refusals"] for row in work.rounds()) > 3
    rows = reading.read("paths", [tmp_path]).table.to_pylist()
    bought = work.state.labelled
    begun = 0
    for row in (row for row in rows if row["t"] > 1):
        if row["origin"] is None:
            begun += 1
            assert row["stepped"] is None
            continue
        origin = bought.points[bought.rounds == row["t"] - 1][row["origin"]]
        assert np.linalg.norm(np.subtract(row["stepped"], origin)) == pytest.approx(0.5, rel=1e-4)
    assert begun
