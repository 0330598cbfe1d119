"""The area under the learning curve against scipy's trapezia, and what makes it fair between round sizes."""

import numpy as np
import pytest
from scipy.integrate import trapezoid

from alss_ray.metrics import aulc


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 2, 17])
def test_agrees_with_scipy(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    labels = np.cumsum(draw.integers(1, 50, count))
    guess, values = draw.random(), draw.normal(size=count)
    expected = trapezoid([guess, *values], [0, *labels]) / labels[-1]
    assert aulc(guess, labels.tolist(), values.tolist()) == pytest.approx(expected, rel=1e-12)


def test_a_flat_curve_has_its_own_height() -> None:
    assert aulc(0.7, [20, 50, 300], [0.7, 0.7, 0.7]) == pytest.approx(0.7)


def test_one_evaluation_counts_from_the_guess() -> None:
    assert aulc(0.1, [20], [0.9]) == pytest.approx(0.5)


@pytest.mark.parametrize("size", [10, 20, 60, 300])
def test_the_same_line_has_the_same_area_whatever_the_round_size(size: int) -> None:
    labels = list(range(size, 301, size))
    assert aulc(0.1, labels, [0.1 + 0.8 * n / 300 for n in labels]) == pytest.approx(0.5)


def test_higher_sooner_is_better() -> None:
    slow, fast = [0.2, 0.5, 0.9], [0.6, 0.8, 0.9]
    assert aulc(0.1, [10, 20, 30], fast) > aulc(0.1, [10, 20, 30], slow)


@pytest.mark.parametrize("until", [5, 20, 37.5, 120, 160])
def test_a_curve_cut_short_has_the_area_up_to_there(until: float) -> None:
    labels, values, guess = [20, 60, 100, 160], [0.4, 0.7, 0.65, 0.9], 0.1
    fine = np.linspace(0, until, 200_001)
    expected = trapezoid(np.interp(fine, [0, *labels], [guess, *values]), fine) / until
    assert aulc(guess, labels, values, until) == pytest.approx(expected, rel=1e-6)


def test_at_a_rung_the_same_line_has_the_same_area_whatever_the_round_size() -> None:
    curves = [list(range(size, 301, size)) for size in (10, 20, 60, 300)]
    areas = [aulc(0.1, labels, [0.1 + 0.8 * n / 300 for n in labels], 100) for labels in curves]
    assert areas == pytest.approx([0.1 + 0.8 * 50 / 300] * 4)
