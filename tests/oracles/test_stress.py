"""The stress oracle: the solver's maps in kPa, a tube in closed form, and refusals by position."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles.vessel.closed_form import constant, hoop_minus_radial, radial

from alss_ray.config import UsageError
from alss_ray.oracles.base import ImageBatch
from alss_ray.oracles.cache import CachedOracle, oracle_identity
from alss_ray.oracles.stress import StressOracle
from alss_ray.oracles.vessel import Settings, solve
from alss_ray.tasks.phantoms import Phantoms, make_phantoms
from alss_ray.testing import check_oracle

INNER, OUTER, PRESSURE = 1.5, 2.2, 16.0


def rings(side: int, finer: int = 8) -> np.ndarray:
    """Distance from the middle in half widths, `finer` x `finer` points a pixel."""
    at = (np.arange(side * finer) + 0.5) / (side * finer) * 2 - 1
    return np.hypot(at[:, None], at)


def shares(inside: np.ndarray, finer: int = 8) -> np.ndarray:
    """uint8 image: the share of each pixel's points that lie inside."""
    side = len(inside) // finer
    return np.rint(255 * inside.reshape(side, finer, side, finer).mean((1, 3))).astype(np.uint8)


def annulus(side: int, inner: float, outer: float) -> np.ndarray:
    """A tube; radii in half widths of the image."""
    distance = rings(side)
    return shares((distance >= inner) & (distance < outer))


def batch(*images: np.ndarray) -> ImageBatch:
    stacked = torch.from_numpy(np.stack(images)[:, None])
    return ImageBatch(stacked, torch.full((len(images),), -1))


@pytest.fixture(scope="module")
def phantoms() -> Phantoms:
    return make_phantoms(count=4, slices_per_vessel=1)


@pytest.mark.parametrize("pressure", [16.0, 10.0])
def test_labels_are_the_solvers_maps(phantoms: Phantoms, pressure: float) -> None:
    labels = StressOracle(phantoms.spacing, pressure).label(batch(*phantoms.images[:, 0]))
    assert labels.values.shape == (4, 1, 64, 64)
    assert labels.values.dtype == torch.float32
    assert not labels.refusals
    assert labels.bought is None
    for image, value in zip(phantoms.images, labels.values, strict=True):
        wanted = solve(image[0], phantoms.spacing, Settings(pressure=pressure, quantity="principal")).stress
        assert np.array_equal(value[0].numpy(), wanted)
        assert not value[0].numpy()[image[0] == 0].any()


@pytest.mark.parametrize("side", [96, 256])
def test_a_tube_has_the_stress_of_the_closed_form_in_kpa(side: int) -> None:
    half = 2.5  # mm
    spacing = 2 * half / side
    labels = StressOracle(spacing, PRESSURE).label(batch(annulus(side, INNER / half, OUTER / half)))
    assert not labels.refusals
    found = labels.values[0, 0].double().numpy()
    at = (np.arange(side) + 0.5) * spacing - half
    radii = np.hypot(at[:, None], at)
    inside = (radii > INNER + spacing) & (radii < OUTER - spacing)
    c = constant(INNER, OUTER, PRESSURE)
    hoop = np.array([radial(r, OUTER, c) + hoop_minus_radial(r, c) for r in radii[inside]])
    assert np.abs(found[inside] / hoop - 1).max() < 0.03
    # The borders' own values, by a parabola through the outermost fifth on either side.
    for border, wanted in ((INNER, 66.81), (OUTER, 26.72)):
        near = inside & (np.abs(radii - border) < 0.2 * (OUTER - INNER) + spacing)
        line = np.polynomial.Polynomial.fit(radii[near], found[near], 2)
        assert line(border) == pytest.approx(wanted, rel=0.03)
    assert not found[(radii < INNER - spacing) | (radii > OUTER + spacing)].any()


def test_stress_depends_on_the_shape_and_the_pressure_but_not_on_the_size() -> None:
    image = annulus(64, 0.5, 0.75)
    small, large, soft = (
        StressOracle(spacing, pressure).label(batch(image)).values
        for spacing, pressure in ((0.05, 16.0), (0.2, 16.0), (0.05, 8.0))
    )
    torch.testing.assert_close(small, large, rtol=1e-4, atol=1e-3)
    assert small.max() > 1.5 * soft.max() > 0


def refused_images() -> dict[str, np.ndarray]:
    """Reason -> an image of 64 x 64 that is refused for it."""
    distance = rings(64)
    at = (np.arange(64 * 8) + 0.5) / 256 - 1
    x, y = np.meshgrid(at, at)
    wall = (distance >= 0.4) & (distance < 0.75)
    holes = (np.hypot(x - 0.35, y) < 0.2) | (np.hypot(x + 0.35, y) < 0.2)
    return {
        "empty mask": np.zeros((64, 64), np.uint8),
        "full mask": np.full((64, 64), 255, np.uint8),
        "no lumen": shares(distance < 0.6),
        "several lumens": shares((distance < 0.75) & ~holes),
        "touches border": shares((distance >= 0.6) & (np.hypot(x - 0.3, y) < 0.9)),
        "broken wall": shares(wall & (np.abs(x) > 0.15)),
        "thin wall": shares((distance >= 0.7) & (distance < 0.74)),
    }


def test_refusals_are_keyed_by_position_and_leave_the_others_alone() -> None:
    good, bad = annulus(64, 0.5, 0.75), refused_images()
    mixed = [image for one in bad.values() for image in (good, one)] + [good]
    labels = StressOracle(0.08).label(batch(*mixed))
    assert dict(labels.refusals) == {2 * k + 1: reason for k, reason in enumerate(bad)}
    assert len(labels.values) == len(mixed)
    alone = StressOracle(0.08).label(batch(good)).values[0]
    assert alone.max() > 16
    for k in range(0, len(mixed), 2):
        assert torch.equal(labels.values[k], alone)


def test_a_batch_of_the_wrong_size_or_without_images() -> None:
    small = StressOracle(0.08).label(batch(annulus(16, 0.5, 0.75), annulus(16, 0.5, 0.75)))
    assert dict(small.refusals) == {0: "wrong shape", 1: "wrong shape"}
    none = ImageBatch(torch.zeros(0, 1, 64, 64, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    assert StressOracle(0.08).label(none).values.shape == (0, 1, 64, 64)


def test_a_load_that_the_wall_cannot_carry_is_refused_not_raised() -> None:
    labels = StressOracle(0.08, 1e15).label(batch(annulus(64, 0.5, 0.75)))
    assert dict(labels.refusals) == {0: "no convergence"}


def test_the_oracle_keeps_the_contract(phantoms: Phantoms) -> None:
    images = [*phantoms.images[:3, 0], *refused_images().values()]
    check_oracle(StressOracle(phantoms.spacing), batch(*images))


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["spacing", "pressure"])
def test_spacing_and_pressure_must_be_positive(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"^stress oracle: {name} is {value}; .*\.$"):
        StressOracle(**{"spacing": 0.12, name: value})


def test_the_cache_knows_what_decides_a_map() -> None:
    plain = StressOracle(0.12)
    others = [dataclasses.replace(plain, spacing=0.1), dataclasses.replace(plain, pressure=15.0)]
    assert len({oracle_identity(one) for one in (plain, *others)}) == 3
    assert oracle_identity(plain) == oracle_identity(StressOracle(0.12, 16.0))


def test_a_cache_before_it_gives_the_same_answers(phantoms: Phantoms, tmp_path: Path) -> None:
    images = batch(phantoms.images[0, 0], np.zeros((64, 64), np.uint8), phantoms.images[1, 0])
    plain, cached = StressOracle(phantoms.spacing), CachedOracle(StressOracle(phantoms.spacing), tmp_path)
    wanted = plain.label(images)
    for bought in (3, 0):
        answer = cached.label(images)
        assert answer.bought == bought
        assert dict(answer.refusals) == dict(wanted.refusals) == {1: "empty mask"}
        assert torch.equal(answer.values[[0, 2]], wanted.values[[0, 2]])
