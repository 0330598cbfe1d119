"""Every reason to refuse a mask, and every repair."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from alss_ray.oracles.vessel import REASONS, Refused, Settings, solve
from alss_ray.oracles.vessel.contours import wall_from_mask

from .shapes import circle, coverage, tube

SPACING = 0.1


def ring(size: int = 64) -> np.ndarray:
    return tube(size, 1.2, 2.4, 6.4 / size)


def cut(mask: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    mask = mask.copy()
    mask[rows, columns] = 0.0
    return mask


def thin() -> np.ndarray:
    return coverage(circle(20.0, (32.0, 32.0)), circle(12.0, (38.7, 32.0)), (64, 64))


def two_lumens() -> np.ndarray:
    both = [coverage(circle(27.0, (32, 32)), circle(8.0, (x, 32.0)), (64, 64)) for x in (21.0, 43.0)]
    return np.minimum(*both)


WITH_NAN = ring()
WITH_NAN[3, 4] = np.nan
MASKS = {
    "wrong shape": [
        np.zeros((3, 64, 64), np.float32),
        np.zeros((16, 64)),
        np.zeros((64, 1025)),
        np.zeros(64),
    ],
    "wrong dtype": [np.zeros((64, 64), np.int64), np.zeros((64, 64), complex), np.full((64, 64), "a")],
    "not finite": [WITH_NAN, np.full((64, 64), np.inf)],
    "out of range": [ring() * 1.5, ring() - 0.1],
    "empty mask": [np.zeros((64, 64)), np.zeros((64, 64), bool), (ring() > 0.5).astype(np.uint8)],
    "full mask": [np.ones((64, 64)), np.full((64, 64), 255, np.uint8)],
    "no lumen": [coverage(circle(20.0, (32.0, 32.0)), circle(0.01, (32.0, 32.0)), (64, 64))],
    "several lumens": [two_lumens()],
    "broken wall": [cut(ring(), slice(30, 33), slice(0, 32)), cut(ring(), slice(30, 33), slice(0, 64))],
    "touches border": [np.roll(ring(), 10, axis=1), np.roll(ring(), -9, axis=0)],
    "thin wall": [thin()],
}


@pytest.mark.parametrize(("reason", "mask"), [(r, m) for r, masks in MASKS.items() for m in masks])
def test_refused_with_its_reason(reason: str, mask: np.ndarray) -> None:
    with pytest.raises(Refused) as caught:
        solve(mask, SPACING)
    assert caught.value.reason == reason
    assert str(caught.value).endswith(".")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.reason, str(again)) == (reason, str(caught.value))


def test_no_convergence_is_refused() -> None:
    soft = Settings(D2=0.0, D1=0.0, c1=1.0, elements_around=32, elements_across=4)
    with pytest.raises(Refused) as caught:
        solve(ring(), SPACING, soft)  # a neo-Hookean tube this soft bursts
    assert caught.value.reason == "no convergence"
    assert "16 kPa" in str(caught.value)


def test_every_reason_is_covered() -> None:
    assert set(MASKS) | {"no convergence"} == set(REASONS)


def test_the_thinnest_wall_is_named() -> None:
    with pytest.raises(Refused, match=r"1\.[23]\d pixels"):
        solve(thin(), SPACING)


def tongue(half: float, slit: float) -> np.ndarray:
    """A round lumen into which a straight tongue of wall reaches from below, and a straight slit of lumen upwards."""
    lumen = ring_of_arcs(12.0, half, slit)
    return coverage(circle(28.0, (32.0, 32.0)), lumen, (64, 64))


def ring_of_arcs(radius: float, half: float, slit: float) -> np.ndarray:
    """The circle with a notch ``2 * half`` wide to its middle and a slot ``2 * slit`` wide 8 pixels out of it."""
    notch, slot = np.arcsin(half / radius), np.arcsin(slit / radius)
    right = np.linspace(-np.pi / 2 + notch, np.pi / 2 - slot, 400)
    left = np.linspace(np.pi / 2 + slot, 3 * np.pi / 2 - notch, 400)
    tip = np.linspace(np.pi, 0.0, 60)
    end = np.linspace(0.0, np.pi, 60)
    parts = [
        radius * np.exp(1j * right),
        1j * (radius + 8.0) + slit * np.exp(1j * end),
        radius * np.exp(1j * left),
        half * np.exp(1j * tip),
    ]
    z = np.concatenate(parts)
    return np.stack([32.0 + z.real, 32.0 + z.imag], axis=1)


@pytest.mark.parametrize(("half", "thin"), [(0.8, True), (0.9, True), (1.1, False), (1.3, False)])
def test_a_tongue_of_wall_in_the_lumen_is_held_to_two_pixels(half: float, thin: bool) -> None:
    mask = tongue(half, 2.0)
    if not thin:
        assert wall_from_mask(mask, SPACING, 24).repairs == ()
        return
    with pytest.raises(
        Refused, match=r"fold of wall between two stretches of the lumen border is 1\.\d\d pixels"
    ) as caught:
        solve(mask, SPACING)
    assert caught.value.reason == "thin wall"


def test_a_narrow_slit_of_lumen_is_no_thin_wall() -> None:
    assert wall_from_mask(tongue(2.0, 0.8), SPACING, 24).repairs == ()


def test_specks_and_pinholes_are_repaired_and_reported() -> None:
    clean = ring()
    dirty = clean.copy()
    dirty[3:5, 3] = 1.0  # outside
    dirty[32, 32] = 1.0  # in the lumen
    dirty[14, 32] = 0.0  # in the wall
    solution, expected = solve(dirty, SPACING), solve(clean, SPACING)
    assert np.array_equal(solution.stress, expected.stress)
    assert expected.repairs == ()
    assert solution.repairs == ("2 specks removed (3 pixels)", "1 pinholes filled (1 pixels)")


def test_soft_edges_are_reported_and_barely_move_the_stress() -> None:
    from scipy.ndimage import gaussian_filter

    clean = ring()
    soft = solve(np.clip(gaussian_filter(clean, 1.5), 0, 1), SPACING)
    assert any("soft edges" in line for line in soft.repairs)
    expected = solve(clean, SPACING).stress
    both = (soft.stress > 0) & (expected > 0)
    assert np.linalg.norm((soft.stress - expected)[both]) < 0.05 * np.linalg.norm(expected[both])


def test_the_three_dtypes_agree() -> None:
    grey = np.round(ring() * 255).astype(np.uint8)
    assert np.array_equal(solve(grey, SPACING).stress, solve(grey / 255.0, SPACING).stress)
    binary = ring() >= 0.5
    assert np.array_equal(solve(binary, SPACING).stress, solve(binary.astype(np.float32), SPACING).stress)


def test_stress_is_drawn_exactly_where_the_wall_is() -> None:
    solution = solve(ring(), SPACING, Settings(quantity="von_mises"))
    assert solution.stress.dtype == np.float32
    assert np.array_equal(solution.stress != 0, ring() >= 0.5)
    assert solution.stress.min() == 0.0


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_spacing_is_an_error_not_a_refusal(spacing: float) -> None:
    with pytest.raises(ValueError, match="spacing") as caught:
        solve(ring(), spacing)
    assert not isinstance(caught.value, Refused)


def test_senseless_settings_are_errors() -> None:
    for wrong in ({"pressure": -1.0}, {"elements_around": 30}, {"quantity": "hoop"}, {"c1": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Settings(**wrong)
