"""The IVUS task on a few phantoms: the split by vessel, the maps against the solver, and what bad input is told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from alss_ray.config import UsageError
from alss_ray.oracles import stress
from alss_ray.oracles.base import ImageBatch, Labels
from alss_ray.oracles.stress import StressOracle
from alss_ray.oracles.vessel import Settings, solve
from alss_ray.tasks import Ivus, TaskData, ivus
from alss_ray.tasks.phantoms import make_phantoms
from alss_ray.testing import check_task

SPACING = 0.12
MADE = make_phantoms(count=32, slices_per_vessel=8)


def write(folder: Path, images: Sequence[np.ndarray], vessels: Sequence[str]) -> Path:
    for k, (image, vessel) in enumerate(zip(images, vessels, strict=True)):
        (folder / vessel).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / vessel / f"{k:03d}.png")
    return folder


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Ivus:
    """Four vessels of eight slices; eight maps are bought once for all tests."""
    folder = tmp_path_factory.mktemp("ivus")
    masks = write(folder / "masks", MADE.images[:, 0], [f"vessel {k}" for k in MADE.vessel])
    return Ivus(masks=masks, spacing=SPACING, labels=folder / "labels")


@pytest.fixture(scope="module")
def data(task: Ivus) -> TaskData:
    return task.load()


def vessels_of(images: Tensor, of: dict[bytes, Any]) -> list[Any]:
    return [of[image.numpy().tobytes()] for image in images]


@dataclass(frozen=True)
class Blank:
    """Labels everything at once with zeros."""

    spacing: float
    pressure: float = 16.0

    def label(self, images: ImageBatch) -> Labels:
        return Labels(torch.zeros(images.images.shape))


# --- data ------------------------------------------------------------------------------------------------


def test_whole_vessels_are_held_out(data: TaskData) -> None:
    of = {image.tobytes(): int(vessel) for image, vessel in zip(MADE.images, MADE.vessel, strict=True)}
    assert len(of) == 32
    pool, test = vessels_of(data.images, of), vessels_of(data.test_images, of)
    assert sorted(pool + test) == sorted(MADE.vessel.tolist())
    assert not set(pool) & set(test)
    assert (len(pool), len(test)) == (24, 8)


@pytest.mark.parametrize(
    "sizes", [(1, 1), (1, 9), (9, 1), (1, 1, 1), (12, 1, 1), (1, 12, 1), (1, 1, 12), (5,) * 6]
)
def test_vessels_of_any_sizes_never_leak_and_leave_something_on_both_sides(
    sizes: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivus, "StressOracle", Blank)
    names = [f"v{k}" for k, size in enumerate(sizes) for _ in range(size)]
    images = MADE.images[: len(names), 0]
    masks = write(tmp_path / "masks", images, names)
    loaded = Ivus(masks=masks, spacing=SPACING, labels=tmp_path / "labels").load()
    of = {image.tobytes(): name for image, name in zip(images, names, strict=True)}
    pool, test = vessels_of(loaded.images, of), vessels_of(loaded.test_images, of)
    assert sorted(pool + test) == names
    assert not set(pool) & set(test)
    assert pool
    assert test


def test_loose_files_are_vessels_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivus, "StressOracle", Blank)
    masks = write(tmp_path / "masks", MADE.images[:20, 0], ["."] * 20)
    loaded = Ivus(masks=masks, spacing=SPACING, labels=tmp_path / "labels").load()
    assert (len(loaded.images), len(loaded.test_images)) == (16, 4)


@pytest.mark.parametrize("independent", [False, True])
def test_the_phantoms_are_990_to_learn_from_and_210_to_test(
    independent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def made(**options: Any) -> Any:
        asked.update(options)
        vessel = np.arange(1200) // (1 if options["independent"] else 30)
        images = np.random.default_rng(0).integers(0, 256, (1200, 1, 8, 8), np.uint8)
        return type("Made", (), {"images": images, "vessel": vessel, "spacing": SPACING})

    monkeypatch.setattr(ivus, "make_phantoms", made)
    monkeypatch.setattr(ivus, "StressOracle", Blank)
    monkeypatch.setattr(ivus, "remembering", lambda oracle, folder: oracle)
    loaded = Ivus(independent_slices=independent, phantom_seed=3, labels=tmp_path).load()
    assert (len(loaded.images), len(loaded.test_images)) == (990, 210)
    assert asked == {"side": 64, "seed": 3, "independent": independent}
    wanted = made(side=64, seed=3, independent=independent).images
    assert np.array_equal(torch.cat([loaded.images, loaded.test_images]).numpy(), wanted)


def test_phantoms_go_through_the_whole_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ivus, "make_phantoms", lambda **options: make_phantoms(count=10, slices_per_vessel=2, **options)
    )
    loaded = Ivus(labels=tmp_path).load()
    assert np.array_equal(loaded.images[:8].numpy(), make_phantoms(count=8, slices_per_vessel=2).images)
    assert len(loaded.test_images) == 2
    wanted = solve(loaded.test_images[0, 0].numpy(), 7.68 / 64).stress
    assert np.allclose(loaded.test_targets[0, 0].numpy() * 200, wanted.clip(0, 200), atol=1e-3)


def test_test_maps_are_the_solvers_cut_at_200_kpa(data: TaskData) -> None:
    assert data.test_targets.dtype == torch.float32
    assert data.test_targets.shape == (8, 1, 64, 64)
    for image, target in zip(data.test_images, data.test_targets, strict=True):
        map_ = solve(image[0].numpy(), SPACING, Settings(pressure=16.0)).stress
        np.testing.assert_allclose(target[0].numpy(), np.clip(map_, 0, 200) / 200, atol=1e-7)
    assert data.test_targets.max() <= 1


def test_the_oracle_of_the_pool_is_the_solver_at_the_masks_spacing(data: TaskData) -> None:
    assert data.oracle == StressOracle(SPACING, 16.0)


def test_larger_masks_come_with_the_spacing_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivus, "StressOracle", Blank)
    double = [np.kron(image, np.ones((2, 2), np.uint8)) for image in MADE.images[:4, 0]]
    masks = write(tmp_path / "masks", double, list("abcd"))
    loaded = Ivus(masks=masks, spacing=0.06, pressure=12.0, labels=tmp_path / "labels").load()
    assert loaded.oracle == Blank(pytest.approx(0.12), 12.0)
    both = torch.cat([loaded.images, loaded.test_images]).numpy()
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in MADE.images[:4])


def test_a_second_load_buys_nothing(task: Ivus, data: TaskData, monkeypatch: pytest.MonkeyPatch) -> None:
    assert task.labels is not None
    before = sorted(task.labels.rglob("*.label"))
    assert len(before) == 8
    solved: list[float] = []

    def counted(mask: np.ndarray, spacing: float, settings: Settings) -> Any:
        solved.append(settings.pressure)
        return solve(mask, spacing, settings)

    monkeypatch.setattr(stress, "solve", counted)
    assert task.load().fingerprint() == data.fingerprint()
    assert not solved
    assert sorted(task.labels.rglob("*.label")) == before
    other = Ivus(masks=task.masks, spacing=SPACING, pressure=12.0, labels=task.labels).load()
    assert solved == [12.0] * 8
    assert other.test_targets.mean() < data.test_targets.mean()


def test_what_the_solver_refuses_is_left_out_of_the_test_set(
    task: Ivus, data: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every vessel has a disc among its slices; the other test images keep their own maps."""
    images, vessels = [], []
    for k, (image, vessel) in enumerate(zip(MADE.images[:, 0], MADE.vessel, strict=True)):
        images.append(np.full_like(image, 255) if k % 8 == 3 else image)
        vessels.append(f"vessel {vessel}")
    loaded = Ivus(
        masks=write(tmp_path / "masks", images, vessels), spacing=SPACING, labels=task.labels
    ).load()
    kept = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(loaded.test_images, data.test_images[kept])
    assert torch.equal(loaded.test_targets, data.test_targets[kept])
    assert len(loaded.images) == 24


def test_a_test_set_that_the_solver_refuses_whole_is_told(tmp_path: Path) -> None:
    masks = write(tmp_path / "masks", [np.full((64, 64), 255, np.uint8)] * 4, list("abcd"))
    with pytest.raises(UsageError, match=r"full mask.*\.$"):
        Ivus(masks=masks, spacing=SPACING, labels=tmp_path / "labels").load()


def test_ivus_conforms(task: Ivus) -> None:
    check_task(task)


# --- scores ----------------------------------------------------------------------------------------------


def test_encode_cuts_at_200_kpa() -> None:
    values = torch.tensor([-5.0, 0.0, 50.0, 200.0, 350.0])
    assert Ivus().encode(values).tolist() == [0.0, 0.0, 0.25, 1.0, 1.0]


@pytest.fixture
def maps() -> tuple[np.ndarray, np.ndarray]:
    """Outputs and targets, 5 x 1 x 16 x 16; targets vanish outside a wall that differs from map to map."""
    rng = np.random.default_rng(0)
    targets = rng.uniform(0.1, 1, (5, 1, 16, 16)) * (rng.random((5, 1, 16, 16)) < 0.3)
    targets[4] = 0
    return rng.random((5, 1, 16, 16)).astype(np.float32), targets.astype(np.float32)


def test_loss_and_score_are_the_mean_squared_error_of_each_map(maps: tuple[np.ndarray, np.ndarray]) -> None:
    outputs, targets = maps
    wanted = [np.mean((outputs[k] - targets[k]) ** 2) for k in range(5)]
    for judge in (Ivus().loss, Ivus().score):
        np.testing.assert_allclose(judge(*map(torch.from_numpy, maps)).numpy(), wanted, rtol=1e-5)
    assert not Ivus.higher_is_better


def test_rmse_is_in_kpa_and_over_the_wall_alone(maps: tuple[np.ndarray, np.ndarray]) -> None:
    outputs, targets = maps
    found = Ivus().extra_scores(*map(torch.from_numpy, maps))["rmse_kpa"].numpy()
    for k in range(4):
        wall = targets[k] > 0
        wanted = np.sqrt(np.mean((200 * outputs[k][wall] - 200 * targets[k][wall]) ** 2))
        assert found[k] == pytest.approx(wanted, rel=1e-5)
    assert found[4] == 0  # no wall, no error, and no NaN


def test_the_guess_is_the_mask_times_the_mean_stress(data: TaskData, task: Ivus) -> None:
    images, targets = data.test_images.numpy(), data.test_targets.numpy().astype(np.float64)
    wall = images > 127
    guessed = np.where(wall, targets[wall].mean(), 0)
    wanted = np.mean((guessed - targets) ** 2)
    assert task.guess(data.test_images, data.test_targets) == pytest.approx(wanted, rel=1e-5)
    constant = np.mean((targets.mean() - targets) ** 2)
    assert 0 < wanted < constant


def test_the_guess_by_hand() -> None:
    """Two wall pixels of 0.2 and 0.6: both are guessed as 0.4, and the error is 2 x 0.04 over four pixels."""
    images = torch.tensor([[[[255, 128], [127, 0]]]], dtype=torch.uint8)
    targets = torch.tensor([[[[0.2, 0.6], [0.0, 0.0]]]])
    assert Ivus().guess(images, targets) == pytest.approx(0.02)


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"masks": Path("masks")}, "--spacing"),
        ({"spacing": 0.1}, "--masks"),
        *[({"masks": Path("masks"), "spacing": x}, "spacing is") for x in (0.0, -0.1, math.nan, math.inf)],
        *[({"pressure": x}, "pressure is") for x in (0.0, -16.0, math.nan, math.inf)],
        ({"phantom_seed": -1}, "phantom_seed is -1"),
    ],
)
def test_options_that_cannot_be_are_told_in_a_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as told:
        Ivus(**options)
    sentence = str(told.value)
    assert sentence.startswith("ivus: ")
    assert words in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize("kind", ["missing", "empty", "one vessel", "one file"])
def test_folders_that_cannot_be_a_task_are_told_in_a_sentence(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    if kind != "missing":
        folder.mkdir()
    if kind == "one vessel":
        write(folder, MADE.images[:3, 0], ["only"] * 3)
    if kind == "one file":
        write(folder, MADE.images[:1, 0], ["."])
    with pytest.raises(UsageError) as told:
        Ivus(masks=folder, spacing=SPACING, labels=tmp_path / "labels").load()
    sentence = str(told.value)
    assert str(folder) in sentence
    assert ("one vessel only" if kind.startswith("one") else "holds no masks") in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert not (tmp_path / "labels").exists()
