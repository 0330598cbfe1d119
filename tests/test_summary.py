"""What a sweep says at its end: paired differences against scipy, the front against its definition."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats

from alss_ray import summary


@pytest.mark.parametrize("count", [2, 5, 30])
def test_a_difference_has_the_paired_t_interval(count: int) -> None:
    draw = np.random.default_rng(count)
    one, other = draw.normal(0.8, 0.1, count), draw.normal(0.7, 0.1, count)
    expected = stats.ttest_rel(one, other).confidence_interval(0.95)
    numbers = [float(word) for word in re.findall(r"[-+][\d.]+", summary.difference((one - other).tolist()))]
    assert numbers == pytest.approx([(one - other).mean(), expected.low, expected.high], abs=6e-5)


def test_a_difference_without_spread_has_no_interval() -> None:
    assert summary.difference([0.25]) == "+0.2500"
    assert summary.difference([0.0, 0.0]) == "+0.0000"
    assert summary.difference([]) == "-"


@pytest.mark.parametrize("sign", [1, -1])
def test_the_front_holds_what_nothing_dominates(sign: int) -> None:
    draw = np.random.default_rng(3)
    rows = [{"val_aulc": float(a), "oracle_seconds": float(s)} for a, s in draw.random((40, 2))]

    def dominated(row: dict[str, float]) -> bool:
        return any(
            sign * o["val_aulc"] <= sign * row["val_aulc"] and o["oracle_seconds"] <= row["oracle_seconds"]
            for o in rows
            if o is not row
        )

    front = summary.front(rows, sign)
    assert sorted(map(id, front)) == sorted(id(row) for row in rows if not dominated(row))
