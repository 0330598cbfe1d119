"""The league table on scores whose order is known."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats

from alss_ray.league import penalties, show_league

SEEDS, ROUNDS = range(6), (10, 20, 30, 40)


def scores(seed: int, lift: float) -> dict[tuple[int, int], float]:
    rng = np.random.default_rng(seed)
    return {key: lift + float(rng.normal(0, 1)) for key in itertools.product(SEEDS, ROUNDS)}


def test_penalties_are_shares_of_rounds_with_a_significant_paired_lead() -> None:
    arms = [scores(0, 0.0), scores(1, 0.7), scores(2, 3.0)]
    found = np.array(penalties(arms, 1))
    for i, j in itertools.product(range(3), range(3)):
        ahead = 0
        for labels in ROUNDS:
            one, other = ([arm[seed, labels] for seed in SEEDS] for arm in (arms[i], arms[j]))
            if i != j:
                ahead += stats.ttest_rel(one, other, alternative="greater").pvalue < 0.05
        assert found[i, j] == pytest.approx(ahead / len(ROUNDS))
    assert found[2, 0] == 1.0
    np.testing.assert_array_equal(penalties(arms, -1), found.T)


def test_unpaired_seeds_and_single_ones_prove_nothing() -> None:
    one, other = {(0, 10): 1.0, (1, 10): 1.0}, {(2, 10): 0.0, (3, 10): 0.0}
    assert penalties([one, other], 1) == [[0.0, 0.0], [0.0, 0.0]]
    assert penalties([{(0, 10): 1.0}, {(0, 10): 0.0}], 1) == [[0.0, 0.0], [0.0, 0.0]]
    assert penalties([one, {(0, 10): 0.5, (1, 10): 0.5}], 1)[0][1] == 1.0  # equal leads: certain


def rows(lift: float, seeds: range = SEEDS) -> list[dict[str, Any]]:
    made = []
    for seed, labels in itertools.product(seeds, ROUNDS):
        value = 0.5 + lift + labels / 1000 + seed / 10_000
        made.append(
            {
                "task": "digits",
                "metric": "accuracy",
                "higher_is_better": True,
                "label_budget": 40,
                "round_size": 10,
                "seed": seed,
                "n_labels": labels,
                "test_metric": value,
                "test_aulc": value - 0.1,
                "oracle_calls": 10,
                "label_seconds": 0.5,
                "propose_seconds": 0.25,
                "t": labels // 10,
                "scored": 100,
            }
        )
    return made


def test_the_table_has_the_best_first_and_what_it_cost(capsys: pytest.CaptureFixture[str]) -> None:
    show_league({"random": rows(0.0), "margin": rows(0.1), "late": rows(0.2, range(1)), "none": []}, "random")
    lines = capsys.readouterr().out.splitlines()
    names = [
        line.split()[0]
        for line in lines
        if line.split() and line.split()[0] in ("random", "margin", "late", "none")
    ]
    order = ["late", "margin", "random", "none"]
    assert names == [*order, "late", *order]  # the table, the matrix's head and its rows
    margin = next(line for line in lines if line.strip().startswith("margin"))
    assert "54.02 ± 0.02" in margin  # AULC in %
    assert "+10.00" in margin
    assert "64.02 ± 0.02" in margin  # final
    assert margin.split()[-4:] == ["40", "2.0", "0.25", "100"]


def test_a_league_without_a_round_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    show_league({"random": []}, "random")
    assert "No experiment has a finished round." in capsys.readouterr().out
