"""Searches on their study: what it is asked first, and what it is told of trials that end in every way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import tiny

from alss_ray import results
from alss_ray.config import UsageError
from alss_ray.experiment import Run
from alss_ray.generators.store import GeneratorStore
from alss_ray.materials import materials
from alss_ray.space import Choice, Float, Int
from alss_ray.strategies import Random
from alss_ray.sweep import Search, Sweep, SweepOptions
from alss_ray.tune.stopping import LabelHalving
from alss_ray.tune.study import StudyTrials
from alss_ray.tune.warm import earlier_trials

SPACE = {"alpha": Float(0.1, 5.0, log=True), "latent_dim": Int(2, 8)}
PAPER = {"alpha": 1.0, "latent_dim": 3}


def sweep(**search: Any) -> Sweep:
    return Sweep("here", SweepOptions(), tiny(), Search(**{"space": SPACE, "first": (PAPER,), **search}))


def report(value: float, labels: int, finished: bool = False, at: Any = None) -> dict[str, Any]:
    steps = [[labels, value]] if at is None else at
    return {"aulc": value, "oracle_seconds": 2.0, "labels": labels, "steps": steps, "finished": finished}


def run(trials: StudyTrials, name: str, value: float) -> dict[str, Any]:
    """One trial from its proposal to its end."""
    point = trials.algorithm.suggest(name)
    trials.algorithm.on_trial_result(name, report(value - 0.1, 10))
    trials.algorithm.on_trial_result(name, report(value, 30, finished=True))
    trials.algorithm.on_trial_complete(name, report(value, 30, finished=True))
    return point


def states(trials: StudyTrials) -> list[str]:
    return [trial.state.name for trial in trials.study.get_trials()]


def test_the_papers_setting_is_asked_first_and_only_once(tmp_path: Path) -> None:
    asked = sweep(trials=4, first=(PAPER, {"alpha": 0.2, "latent_dim": 8}))
    trials = StudyTrials(asked, tmp_path)
    assert run(trials, "a", 0.5) == PAPER
    again = StudyTrials(asked, tmp_path)
    assert again.left == 3
    assert run(again, "b", 0.6) == {"alpha": 0.2, "latent_dim": 8}
    assert run(again, "c", 0.6) not in (PAPER, {"alpha": 0.2, "latent_dim": 8})


def test_values_stand_at_numbers_of_labels(tmp_path: Path) -> None:
    trials = StudyTrials(sweep(), tmp_path)
    run(trials, "a", 0.5)
    (first, *_) = trials.study.get_trials()
    assert first.state.name == "COMPLETE"
    assert first.value == 0.5
    assert first.intermediate_values == {10: 0.4, 30: 0.5}


def test_every_end_of_a_trial_has_its_own_state(tmp_path: Path) -> None:
    trials = StudyTrials(sweep(rungs=(10,)), tmp_path)
    for name in ("full", "stopped", "failed", "broken", "interrupted"):
        trials.algorithm.suggest(name)
    assert trials.scheduler is not None
    tell = trials.algorithm.on_trial_complete
    tell("full", report(0.9, 30, finished=True))
    trials.scheduler.stopped.add("stopped")
    tell("stopped", report(0.95, 20, at=[[10, 0.3]]))  # its latest value looks better than the full trial's
    tell("failed", {"aulc": float("nan"), "failure": "diverged", "steps": [], "finished": False})
    tell("broken", None, error=True)
    tell("interrupted", report(0.95, 20, at=[[10, 0.7]]))
    assert states(trials) == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "RUNNING"]
    assert trials.study.best_value == 0.9
    assert trials.study.get_trials()[1].intermediate_values == {10: 0.3}
    resumed = StudyTrials(sweep(rungs=(10,)), tmp_path)
    assert states(resumed)[-1] == "WAITING"
    interrupted = trials.study.get_trials()[-1].params
    assert resumed.algorithm.suggest("taken up") == interrupted


def test_each_value_of_a_choice_gets_as_many_trials(tmp_path: Path) -> None:
    space = {"alpha": Float(0.1, 5.0), "latent_dim": Choice((2, 3, 8))}

    def asked(trials: int) -> Sweep:
        return sweep(space=space, each="latent_dim", trials=trials)

    trials = StudyTrials(asked(6), tmp_path)
    points = [run(trials, str(k), 0.5) for k in range(4)]
    assert states(trials).count("WAITING") == 1, "a long queue would be read again for every trial"
    more = StudyTrials(asked(9), tmp_path)
    points += [run(more, str(k), 0.5) for k in range(4, 9)]
    assert Counter(point["latent_dim"] for point in points) == {2: 3, 3: 3, 8: 3}
    assert len({point["alpha"] for point in points}) == 9


def test_a_front_has_two_values_a_trial(tmp_path: Path) -> None:
    trials = StudyTrials(sweep(objectives=("aulc", "oracle_seconds"), trials=2), tmp_path)
    run(trials, "a", 0.5)
    run(trials, "b", 0.6)
    assert [trial.values for trial in trials.study.get_trials()] == [[0.5, 2.0], [0.6, 2.0]]
    assert [d.name for d in trials.study.directions] == ["MAXIMIZE", "MINIMIZE"]
    (best,) = trials.study.best_trials
    assert best.values == [0.6, 2.0]


def test_the_best_are_confirmed_beside_random_selection(tmp_path: Path) -> None:
    search = sweep(confirm=2, trials=4)
    trials = StudyTrials(search, tmp_path)
    points = [run(trials, str(k), value) for k, value in enumerate((0.3, 0.9, 0.5, 0.7))]
    found = trials.confirmations()
    assert [(c.point, c.tuned) for c in found] == [(points[1], 0.9), (points[3], 0.7)]
    assert found[0].experiment.strategy.alpha == points[1]["alpha"]
    assert found[0].baseline == found[1].baseline, "they differ in nothing that random selection has"
    assert found[0].baseline.strategy == Random()
    assert not set(search.seeds) & set(search.reporting_seeds)


def test_a_rung_compares_what_was_reached_with_its_labels() -> None:
    """One in three goes on; the same values in another order of reports, and after a restart, decide alike."""

    def decide(scheduler: LabelHalving, name: str, steps: Any) -> str:
        trial: Any = SimpleNamespace(trial_id=name)
        scheduler.on_trial_add(None, trial)  # type: ignore[arg-type]
        return scheduler.on_trial_result(None, trial, report(0.0, 30, at=steps))

    def fresh(past: Any = ()) -> LabelHalving:
        scheduler = LabelHalving(90, (10, 30), past)
        scheduler.set_search_properties("aulc", "max")
        return scheduler

    one = fresh()
    assert decide(one, "a", [[10, 0.5], [30, 0.6]]) == "CONTINUE"  # nobody to compare with
    assert decide(one, "b", [[10, 0.6], [30, 0.5]]) == "STOP"  # ahead at 10 labels, behind at 30
    assert decide(one, "c", [[10, 0.4]]) == "STOP"
    assert decide(one, "d", [[10, 0.7]]) == "CONTINUE"
    assert one.stopped == {"b", "c"}
    again = fresh([{10: 0.5, 30: 0.6}, {10: 0.6, 30: 0.5}, {10: 0.4}, {10: 0.7}])
    assert again.stopped == set()
    for name, value in (("e", 0.59), ("f", 0.65)):
        assert decide(one, name, [[10, value]]) == decide(again, name, [[10, value]])


def test_a_warm_start_adds_what_lies_in_the_space(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier, later = tmp_path / "earlier", tmp_path / "later"
    first = sweep(trials=3)
    results.claim(earlier, first.asked(), False)
    done = StudyTrials(first, earlier)
    points = [run(done, str(k), value) for k, value in enumerate((0.3, 0.9, 0.5))]
    # One experiment's records say which data they are on.
    list(Run(first.at(PAPER), materials(first.base.task), earlier, GeneratorStore(tmp_path / "g")).rounds())

    low, high = sorted(point["alpha"] for point in points)[:2]
    narrow = {"alpha": Float(low, high), "latent_dim": Int(2, 8), "iterations": Int(1, 50)}
    paper = {"alpha": high, "latent_dim": 3, "iterations": 12}
    asked = sweep(space=narrow, warm_start=earlier, first=(paper,), trials=5)
    later.mkdir()
    trials = StudyTrials(asked, later, earlier_trials(asked))
    warm = [trial for trial in trials.study.get_trials() if trial.user_attrs]
    assert [trial.state.name for trial in warm] == ["COMPLETE", "COMPLETE"]
    assert {(t.params["alpha"], t.value) for t in warm} == {
        (point["alpha"], value)
        for point, value in zip(points, (0.3, 0.9, 0.5), strict=True)
        if point["alpha"] <= high
    }
    assert {trial.params["iterations"] for trial in warm} == {12}, "what was fixed then is searched now"
    assert trials.left == 5, "its own trials are still to be run"
    assert "2 of 3 finished trials" in capsys.readouterr().err
    again = StudyTrials(asked, later, earlier_trials(asked))
    assert len(again.study.trials) == 3, "two of them and the paper's setting"

    for other, sentence in [
        (tiny(label_budget=40), "label_budget was 30, now 40"),
        (tiny(iterations=13), "0 of 3 finished trials .*iterations was 12, now 13"),
    ]:
        changed = Sweep("here", SweepOptions(), other, Search(SPACE, first=(PAPER,), warm_start=earlier))
        with pytest.raises(UsageError, match=sentence):
            earlier_trials(changed)
    with pytest.raises(UsageError, match="holds no search to start from"):
        earlier_trials(sweep(warm_start=tmp_path))


def test_a_trial_that_waits_for_people_keeps_its_slot_and_is_taken_up_again(tmp_path: Path) -> None:
    trials = StudyTrials(sweep(trials=4), tmp_path)
    trials.algorithm.slots = 2
    waiting = {**report(float("nan"), 0, at=[]), "waiting": ["key"]}
    points = [trials.algorithm.suggest(name) for name in "ab"]
    trials.algorithm.on_trial_complete("a", waiting)
    assert trials.algorithm.suggest("c") is None  # b may still end otherwise
    trials.algorithm.on_trial_complete("b", waiting)
    assert trials.algorithm.suggest("c") == "FINISHED"
    assert states(trials) == ["RUNNING", "RUNNING"]
    again = StudyTrials(sweep(trials=4), tmp_path)
    assert again.left == 4
    assert [again.algorithm.suggest(name) for name in "de"] == points
