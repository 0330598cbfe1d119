"""The league of strategies: who learns more from as many labels, on paired seeds, and at what cost.

The penalty matrix is in the manner of Ash et al. 2020: an arm gets 1 / T for each of the T
rounds at which a paired t-test finds it ahead of the other.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alss_ray.display import print_table
from alss_ray.metrics import display_unit
from alss_ray.summary import difference, spread

LEVEL = 0.1  # of the paired t-tests of the penalty matrix, two-sided
COMMON = 2  # seeds that a pair must share to be tested
ROUNDING = 1e-9

Rows = Sequence[Mapping[str, Any]]


def show_league(arms: Mapping[str, Rows], baseline: str) -> None:
    """Print the league table and the penalty matrix of arms, each with the rows of all its seeds' rounds."""
    some = next((rows[0] for rows in arms.values() if rows), None)
    if some is None:
        print("No experiment has a finished round.")
        return
    (scale, unit), sign = display_unit(some["metric"]), 1 if some["higher_is_better"] else -1
    curves = {name: Curves(rows, scale) for name, rows in arms.items()}
    order = sorted(arms, key=lambda name: (not curves[name].areas, -sign * curves[name].area))
    won = penalties([curves[name].values for name in order], sign)
    body = []
    for place, name in enumerate(order):
        own, other = curves[name], curves[baseline]
        pairs = [
            own.areas[seed] - other.areas[seed] for seed in sorted(own.areas.keys() & other.areas.keys())
        ]
        body.append(
            [
                name,
                str(len(own.areas)),
                spread(list(own.areas.values()), 2),
                difference(pairs, 2) if name != baseline else "",
                spread(list(own.finals.values()), 2),
                f"{sum(won[place]):.2f}",
                f"{sum(row[place] for row in won):.2f}",
                f"{own.oracle_calls:.0f}",
                f"{own.oracle_seconds:.1f}",
                f"{own.proposal_seconds:.2f}",
                f"{own.scored:.0f}",
            ]
        )
    print_table(
        f"League on {some['task']}: {some['label_budget']} labels in rounds of {some['round_size']}, the best first",
        [
            "arm",
            "seeds",
            f"test AULC ({some['metric']}{unit})",
            f"difference to {baseline}",
            "final",
            "wins",
            "losses",
            "oracle calls",
            "oracle s",
            "proposal s a round",
            "scored a round",
        ],
        body,
        "Mean ± standard deviation; paired differences with their 95% t interval. Wins and losses: row and column "
        "sums of the matrix below. Calls and seconds: means over the seeds. Scored: images that networks were run on "
        "for the proposals of a round after the first.",
    )
    print_table(
        "How often the row's arm is ahead of the column's: share of rounds",
        ["", *order],
        [[name, *(f"{share:.2f}" if share else "" for share in won[k])] for k, name in enumerate(order)],
        f"Paired t-tests over the seeds at every round, two-sided at {LEVEL}, not adjusted for their number.",
    )


class Curves:
    """One arm's test scores in the metric's display unit, by seed and labels, and its costs."""

    def __init__(self, rows: Rows, scale: float) -> None:
        self.values = {(row["seed"], row["n_labels"]): scale * row["test_metric"] for row in rows}
        last = {row["seed"]: row for row in rows if row["n_labels"] == row["label_budget"]}
        self.areas = {seed: scale * row["test_aulc"] for seed, row in last.items()}
        self.finals = {seed: scale * row["test_metric"] for seed, row in last.items()}
        seeds = max(1, len({row["seed"] for row in rows}))
        self.oracle_calls = sum(row["oracle_calls"] for row in rows) / seeds
        self.oracle_seconds = sum(row["label_seconds"] for row in rows) / seeds
        self.proposal_seconds = (
            statistics.fmean([row["propose_seconds"] for row in rows]) if rows else math.nan
        )
        later = [row["scored"] for row in rows if row["t"] > 1]
        self.scored = statistics.fmean(later) if later else 0.0

    @property
    def area(self) -> float:
        """The mean AULC; 0 where no seed is finished."""
        return statistics.fmean(self.areas.values()) if self.areas else 0.0


def penalties(arms: Sequence[Mapping[tuple[int, int], float]], sign: int) -> list[list[float]]:
    """Share of the rounds at which arm i is ahead of arm j, `arms x arms`.

    Args:
        arms: (seed, labels) -> score.
        sign: 1 where a higher score is better, else -1.
    """
    from scipy import stats  # takes a second to import

    def share(one: Mapping[tuple[int, int], float], other: Mapping[tuple[int, int], float]) -> float:
        both = one.keys() & other.keys()
        rounds = sorted({labels for _, labels in both})
        ahead = 0
        for labels in rounds:
            pairs = np.array([sign * (one[key] - other[key]) for key in sorted(both) if key[1] == labels])
            if len(pairs) < COMMON or pairs.mean() <= 0:
                continue
            # Differences that are equal but for rounding have no spread to test against: they are certain.
            ahead += np.ptp(pairs) < ROUNDING * pairs.mean() or stats.ttest_1samp(pairs, 0.0).pvalue < LEVEL
        return ahead / len(rounds) if rounds else 0.0

    return [[share(one, other) if one is not other else 0.0 for other in arms] for one in arms]
