"""Statistics of paired differences: intervals, tests and how many labels a level takes. Numpy and scipy only.

An array `differences` is seeds x columns throughout: one row a pair, one column a thing that is compared.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
LEVEL = 0.05
RESAMPLES = 10_000  # of the bootstrap, and sign flips where not all can be tried


@dataclass(frozen=True)
class Interval:
    """The two ends of a confidence interval, in the unit of what was estimated; infinite where it has no end."""

    low: float
    high: float


@functools.lru_cache(maxsize=1)
def resamples(seeds: int) -> np.ndarray:
    """Shares of each seed in bootstrap samples, RESAMPLES x seeds: their product with values is a sample's mean.

    The same for the same number of seeds, so that an analysis gives the same figures again.
    """
    drawn = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    return drawn / seeds


def intervals(samples: np.ndarray, seeds: int) -> list[Interval]:
    """Expanded percentile intervals of bootstrap samples (RESAMPLES x columns) that resampled so many seeds.

    The bootstrap's spread is too small by sqrt((n - 1) / n) and by that of the normal against Student's t. So
    the percentiles are moved outwards by both (Hesterberg 2015, "What Teachers Should Know About the
    Bootstrap", section 5.3). No interval can reach beyond the seeds' own range: see `range_coverage`.
    """
    student = stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1)
    tail = stats.norm.cdf(-np.sqrt(seeds / (seeds - 1)) * student)
    ordered = np.sort(samples, axis=0)  # samples may be infinite, so ends are samples, not means of two
    below = int(tail * len(samples))
    return [
        Interval(float(low), float(high))
        for low, high in zip(ordered[below], ordered[-1 - below], strict=True)
    ]


def range_coverage(seeds: int) -> float:
    """How often the range of so many independent differences holds their median: no interval here does better."""
    return 1 - 2.0 ** (1 - seeds)


def mean_intervals(differences: np.ndarray) -> list[Interval] | list[None]:
    """The interval of each column's mean; None for each where there is but one seed."""
    seeds, columns = differences.shape
    if seeds < 2:
        return [None] * columns
    return intervals(resamples(seeds) @ differences, seeds)


def permutation_p(differences: np.ndarray) -> np.ndarray:
    """Two-sided p of each column by the permutation test of pairs: signs are flipped, the mean is compared.

    Exact up to 13 seeds, where all flips are tried; else RESAMPLES - 1 random ones, always the same.
    """
    seeds = len(differences)
    if seeds < 2:
        return np.full(differences.shape[1], np.nan)
    differences = np.round(differences, 12)  # those that are equal but for the last bits are ties
    if 2**seeds < RESAMPLES:
        found = stats.permutation_test(
            (differences,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", vectorized=True,
            n_resamples=np.inf, axis=0,
        )  # fmt: skip
        return found.pvalue
    # As scipy does it, but one product for all flips: with 1,000 seeds scipy takes seconds a test.
    sums, null = differences.sum(axis=0), _flips(seeds) @ differences
    slack = 1e-9 * np.abs(differences).sum(axis=0)
    beyond = np.minimum((null <= sums + slack).sum(axis=0), (null >= sums - slack).sum(axis=0))
    return np.minimum(1.0, 2 * (beyond + 1) / RESAMPLES)


@functools.lru_cache(maxsize=1)
def _flips(seeds: int) -> np.ndarray:
    """Random signs, (RESAMPLES - 1) x seeds."""
    return np.random.default_rng(0).choice([-1.0, 1.0], (RESAMPLES - 1, seeds))


def wilcoxon_p(differences: np.ndarray) -> np.ndarray:
    """Two-sided p of each column by Wilcoxon's signed-rank test, exact also where there are ties.

    It is the permutation test of the signed ranks; pairs without a difference are left out of the ranking.
    """
    size = np.abs(np.round(differences, 12))
    ranks = stats.rankdata(size, axis=0) - (size == 0).sum(axis=0)
    return permutation_p(np.where(size == 0, 0.0, np.sign(differences) * ranks))


def holm(p: np.ndarray) -> np.ndarray:
    """p adjusted by Holm (1979) for the family that `p` is; NaNs stay and do not count."""
    adjusted = np.full(len(p), np.nan)
    order = [k for k in np.argsort(p) if np.isfinite(p[k])]
    least = 0.0
    for rank, k in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p[k]))
        adjusted[k] = least
    return adjusted


def least_p(seeds: int, family: int = 1) -> float:
    """The smallest p that a test of so many pairs can give, adjusted for the first of a family."""
    return min(1.0, family * max(2.0 ** (1 - seeds), 1 / RESAMPLES))


def seeds_needed(family: int) -> int:
    """The fewest pairs with which one of a family of tests can come out below LEVEL."""
    return next(seeds for seeds in range(2, 64) if least_p(seeds, family) <= LEVEL)


def labels_to_reach(levels: np.ndarray, labels: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Labels at which each curve first reaches its level, by linear interpolation; infinite where it does not.

    A curve that starts at or above its level reaches it at its first point, which is an upper bound.

    Args:
        levels: one a curve, higher being better.
        labels: increasing, one a point.
        curves: curves x points.
    """
    there = curves >= levels[:, None]
    at = there.argmax(axis=1)
    row = np.arange(len(curves))
    before = np.maximum(at - 1, 0)
    rise = curves[row, at] - curves[row, before]
    share = np.divide(levels - curves[row, before], rise, out=np.ones(len(curves)), where=rise > 0)
    reached = labels[before] + share * (labels[at] - labels[before])
    return np.where(there.any(axis=1), reached, np.inf)
