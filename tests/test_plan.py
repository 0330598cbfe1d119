"""The plan of a sweep against counting by hand, and its time against experiments whose cost is known."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny

from alss_ray.generators.store import GeneratorStore, Request
from alss_ray.materials import materials
from alss_ray.plan import planned
from alss_ray.space import Choice, Float, Int, Space
from alss_ray.strategies import Random
from alss_ray.sweep import Search, Sweep, SweepOptions, replicated

BASE = tiny()


def plan(space: Space, folder: Path, **search: Any) -> Any:
    sweep = Sweep("here", SweepOptions(), BASE, Search(space, **search))
    return planned(sweep, 0, sweep.search.trials, GeneratorStore(folder))  # type: ignore[union-attr]


def test_a_search_is_counted(tmp_path: Path) -> None:
    found = plan({"alpha": Float(0.1, 1)}, tmp_path, trials=7, replicates=3, confirm=2, confirm_seeds=4)
    assert (found.trials, found.experiments, found.confirming) == (7, 7 * 3 + 16, 16)
    assert (found.labels, found.validation_labels) == (37 * 30, 37 * 30)


@pytest.mark.parametrize(
    ("space", "trials", "generators"),
    [
        ({"alpha": Float(0.1, 1)}, 9, 1),
        ({"latent_dim": Int(2, 8)}, 20, 7),
        ({"latent_dim": Int(2, 8)}, 4, 4),
        ({"latent_dim": Int(2, 4), "codes": Choice(("mean", "sample"))}, 20, 6),
        ({"generator_learning_rate": Float(1e-4, 1e-2)}, 5, 5),
    ],
)
def test_generators_that_may_come_up_are_counted(
    space: Space, trials: int, generators: int, tmp_path: Path
) -> None:
    found = plan(space, tmp_path, trials=trials)
    assert (found.generators, found.trained) == (generators, 0)


def test_generators_in_the_cache_need_no_training(tmp_path: Path) -> None:
    shared, store = materials(BASE.task), GeneratorStore(tmp_path)
    cpu = torch.device("cpu")
    store.obtain(Request(BASE.generator, shared.data, shared.fingerprint, cpu, lambda done, total: None))
    found = plan({"latent_dim": Int(2, 4)}, tmp_path, trials=20)
    assert (found.generators, found.trained) == (3, 1)


def test_a_list_is_counted_as_it_stands(tmp_path: Path) -> None:
    arms = [BASE, tiny(strategy=Random(), label_budget=20)]
    experiments = [e for arm in arms for e in replicated(arm, range(2))]
    found = planned(
        Sweep("here", SweepOptions(), BASE, experiments=experiments), 0, 4, GeneratorStore(tmp_path)
    )
    assert (found.trials, found.experiments, found.labels, found.generators) == (4, 4, 100, 1)


def test_time_is_that_of_the_rounds_left_over_the_trials_at_once(tmp_path: Path) -> None:
    """An iteration of 10 ms, a round of 0.5 s around it, a label of 0.1 s, a generator of 20 s."""
    around = {
        "propose_seconds": 0.1,
        "append_seconds": 0.1,
        "evaluate_seconds": 0.2,
        "checkpoint_seconds": 0.1,
    }
    rows = [
        {**around, "iterations": 12, "fit_seconds": 0.12, "label_seconds": 1.0, "n_new": 10, "experiment": "x",
         "attempt": t, "t": t, "generator_trained": True, "generator_seconds": 20.0}
        for t in (1, 2, 3)
    ]  # fmt: skip
    found = plan({"round_size": Choice((10, 30))}, tmp_path, trials=8)
    small, large = (rounds * (0.12 + 0.5) + 30 * 0.1 for rounds in (3, 1))
    expected = (8 * (small + large) / 2 + 20) / 2
    assert found.seconds(rows, 2, 8) == pytest.approx(expected, rel=0.05)  # 200 draws stand for the space
    assert found.seconds(rows, 100, 100) == pytest.approx(expected / 4, rel=0.05), (
        "no more at once than there are"
    )
    assert found.seconds(rows, 8, 2) == pytest.approx(expected, rel=0.05), (
        "cores that are shared serve no more"
    )


@pytest.mark.parametrize(
    ("offsets", "seconds"),
    [
        # 16 trials of 3 rounds are left; the phases of a round add up to 2 s.
        ([0], 16 * 3 * 5.0 / 2),  # alone, a round took 5 s by the clock; two cores
        ([0, 0], 16 * 3 * 5.0 / 2),  # the same for two at once: each had a core
        ([0, 0, 1, 1], 16 * 3 * (5.0 / 2) / 2),  # four at once took turns: half of the 5 s was waiting
        ([0, 100, 200, 300], 16 * 3 * 5.0 / 2),  # four after one another did not
    ],
)
def test_time_goes_by_the_clock_and_by_who_shared_the_cores(
    offsets: list[int], seconds: float, tmp_path: Path
) -> None:
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    rows = [
        {"experiment": f"{k}", "attempt": 0, "t": t, "iterations": 12, "n_new": 10, "generator_trained": False,
         "generator_seconds": 0.0, "propose_seconds": 0.25, "append_seconds": 0.25, "evaluate_seconds": 0.25,
         "checkpoint_seconds": 0.25, "fit_seconds": 0.5, "label_seconds": 0.5,
         "recorded_at": start + datetime.timedelta(seconds=offset + 5.0 * t)}
        for k, offset in enumerate(offsets)
        for t in (1, 2, 3)
    ]  # fmt: skip
    found = plan({"alpha": Float(0.1, 1)}, tmp_path, trials=16)
    # Spans that are shifted by a second overlap in 10 of 11 seconds.
    assert found.seconds(rows, 4, 2) == pytest.approx(seconds, rel=0.11)


def test_replicates_share_the_clock(tmp_path: Path) -> None:
    """Two seeds side by side: between two rounds of one of them each has done a round."""
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    rows = [
        {"experiment": f"{seed}", "attempt": 0, "t": t, "iterations": 12, "n_new": 10, "generator_trained": False,
         "generator_seconds": 0.0, "propose_seconds": 0.25, "append_seconds": 0.25, "evaluate_seconds": 0.25,
         "checkpoint_seconds": 0.25, "fit_seconds": 0.5, "label_seconds": 0.5,
         "recorded_at": start + datetime.timedelta(seconds=3.0 * (2 * t + seed))}
        for seed in (0, 1)
        for t in (1, 2, 3)
    ]  # fmt: skip
    found = plan({"alpha": Float(0.1, 1)}, tmp_path, trials=4, replicates=2)
    assert found.seconds(rows, 1, 1) == pytest.approx(4 * 2 * 3 * 3.0)
