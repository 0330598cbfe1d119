"""analysis/_inference.py against scipy, closed forms, and simulations in which the truth is known."""

import itertools

import _inference
import numpy as np
import pytest
from scipy import stats


@pytest.mark.parametrize(("seeds", "least", "most"), [(5, 0.895, 0.955), (10, 0.93, 0.97), (20, 0.93, 0.97)])
def test_intervals_cover_the_truth_as_often_as_they_say(seeds, least, most):
    """1,000 simulated sets of pairs whose true mean difference is 0.3: the standard error of a share is 0.7 %."""
    differences = np.random.default_rng(1).normal(0.3, 1.0, (seeds, 1000))
    found = _inference.mean_intervals(differences)
    covered = np.mean([interval.low <= 0.3 <= interval.high for interval in found])
    assert least < covered < most
    # The plain percentile interval, which this one widens, covers less often where seeds are few.
    samples = _inference.resamples(seeds) @ differences
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    assert np.mean((low <= 0.3) & (high >= 0.3)) < covered


def test_an_interval_is_within_its_seeds_range_and_one_seed_has_none():
    differences = np.random.default_rng(2).normal(size=(3, 50))
    for interval, column in zip(_inference.mean_intervals(differences), differences.T, strict=True):
        assert column.min() <= interval.low < column.mean() < interval.high <= column.max()
    assert _inference.mean_intervals(differences[:1, :2]) == [None, None]
    assert np.isnan(_inference.permutation_p(differences[:1])).all()


def test_the_median_is_as_often_in_the_range_as_is_said():
    for seeds in (2, 3, 5):
        draws = np.random.default_rng(3).exponential(size=(seeds, 20_000)) - np.log(2)  # its median is 0
        share = np.mean((draws.min(axis=0) < 0) & (draws.max(axis=0) > 0))
        assert share == pytest.approx(_inference.range_coverage(seeds), abs=0.012)


def test_the_permutation_test_tries_all_signs():
    differences = np.random.default_rng(4).normal(0.4, 1, (7, 5))
    signs = np.array(list(itertools.product((1, -1), repeat=7)))
    sums = np.abs(signs @ differences)
    expected = (sums >= np.abs(differences.sum(axis=0)) - 1e-12).mean(axis=0)
    np.testing.assert_allclose(_inference.permutation_p(differences), expected)
    assert _inference.permutation_p(np.ones((5, 1)))[0] == _inference.least_p(5) == 2**-4
    assert _inference.permutation_p(np.zeros((5, 1)))[0] == 1


def test_random_flips_agree_with_scipys():
    """The standard error of a p near 0.5, twice a share of 9,999 flips, is 0.9 %; scipy's of 49,999 is 0.4 %."""
    differences = np.random.default_rng(9).normal(0.15, 1, (40, 6))
    differences[:, 0] = 1.0  # no flip gives as much
    differences[:, 1] = np.tile([0.1, -0.1], 20) + 1e-14 * differences[:, 2]  # every flip of pairs is a tie
    theirs = stats.permutation_test(
        (differences,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=49_999, batch=1000, axis=0, rng=1,
    )  # fmt: skip
    ours = _inference.permutation_p(differences)
    np.testing.assert_allclose(ours[2:], theirs.pvalue[2:], atol=0.04)
    assert ours[0] == 2 / _inference.RESAMPLES
    assert ours[1] == 1.0


def test_wilcoxons_test_is_scipys():
    draw = np.random.default_rng(5)
    smooth = draw.normal(0.5, 1, (9, 6))
    np.testing.assert_allclose(_inference.wilcoxon_p(smooth), stats.wilcoxon(smooth, method="exact").pvalue)
    tied = draw.integers(-2, 5, (6, 4)) / 10  # with ties and zeros, which scipy's exact method does not take
    every = stats.wilcoxon(tied, method=stats.PermutationMethod(n_resamples=2**6)).pvalue
    np.testing.assert_allclose(_inference.wilcoxon_p(tied), every)


def test_many_seeds_agree_with_the_t_test():
    differences = np.random.default_rng(6).normal(0.2, 1, (60, 4))
    expected = stats.ttest_1samp(differences, 0).pvalue
    np.testing.assert_allclose(_inference.permutation_p(differences), expected, atol=0.02)


def test_holm_is_the_closure_of_bonferronis_tests():
    """Holm's adjusted p is the largest Bonferroni p of all families that hold the hypothesis (Marcus et al. 1976)."""
    assert _inference.holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )
    draw = np.random.default_rng(7)
    for _ in range(20):
        p = np.round(draw.uniform(0, 0.5, 5), 2)
        families = [f for size in range(1, 6) for f in itertools.combinations(range(5), size)]
        closed = [max(min(1, len(f) * min(p[list(f)])) for f in families if k in f) for k in range(5)]
        np.testing.assert_allclose(_inference.holm(p), closed)
    adjusted = _inference.holm(np.array([np.nan, 0.02, 0.03]))
    assert np.isnan(adjusted[0])
    assert adjusted[1:].tolist() == pytest.approx([0.04, 0.04])


@pytest.mark.parametrize(("seeds", "arms"), [(6, 1), (8, 3), (5, 3)])
def test_arms_without_a_difference_are_told_apart_no_more_often_than_said(seeds, arms):
    """2,000 simulated comparisons under the null, the arms sharing their baseline's noise."""
    draw = np.random.default_rng(8)
    gaps = draw.standard_t(4, (seeds, arms, 2000)) - draw.standard_t(4, (seeds, 1, 2000))
    p = _inference.permutation_p(gaps.reshape(seeds, -1)).reshape(arms, 2000)
    wrong = np.mean([(_inference.holm(column) <= _inference.LEVEL).any() for column in p.T])
    assert wrong <= _inference.LEVEL + 3 * np.sqrt(0.05 * 0.95 / 2000)
    if seeds < _inference.seeds_needed(arms):
        assert wrong == 0


def test_how_many_seeds_can_show_a_difference():
    for family in (1, 2, 3, 10):
        needed = _inference.seeds_needed(family)
        for seeds, able in ((needed - 1, False), (needed, True)):
            p = np.append(_inference.permutation_p(np.ones((seeds, 1))), np.ones(family - 1))
            assert (_inference.holm(p)[0] <= _inference.LEVEL) is np.bool_(able)


def test_labels_to_reach_a_level():
    labels = np.array([10.0, 20.0, 40.0])
    curves = np.array([[0.1, 0.3, 0.4], [0.1, 0.3, 0.4], [0.1, 0.3, 0.4], [0.5, 0.2, 0.6], [0.1, 0.1, 0.1]])
    levels = np.array([0.2, 0.35, 0.41, 0.45, 0.1])
    got = _inference.labels_to_reach(levels, labels, curves)
    np.testing.assert_allclose(got, [15, 30, np.inf, 10, 10])
