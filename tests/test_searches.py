"""Searching sweeps on a real local Ray: what their study says of every trial, what they buy, and what they show."""

from __future__ import annotations

import os
import signal
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from helpers import lasting
from sweeping import started, states, sweep, until

from alss_ray import reading
from alss_ray.sweep import REPORTING_SEEDS
from alss_ray.tuning import TUNING_SEED


def rows(folder: Path, **wanted: Any) -> list[dict[str, Any]]:
    """The rounds of a folder whose columns have the wanted values."""
    found = reading.read("rounds", [folder]).table.to_pylist()
    return [row for row in found if all(row[name] == value for name, value in wanted.items())]


def study(folder: Path, name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder / 'study.db'}")


HALVED = [
    "--latent-dim", "3", "--search", "learning_rate=choice(1e-6,0.01)", "--try-first", "alpha=0.5,learning_rate=0.01",
    "--try-first", "alpha=2,learning_rate=1e-6", "--trials", "3", "--concurrency", "1", "--replicates", "2",
    "--early-stopping", "--confirm", "1", "--confirm-seeds", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A search in which a network that hardly learns falls behind at the rung of 10 labels."""
    folder = tmp_path_factory.mktemp("halved") / "results"
    done = sweep("latent_dim.py", folder, *HALVED)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_trial_stopped_early_is_pruned_and_never_the_best(halved: tuple[Path, str]) -> None:
    folder, _ = halved
    trials = study(folder, "latent_dim").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    for trial in trials:
        at = rows(folder, alpha=trial.params["alpha"], learning_rate=trial.params["learning_rate"])
        tuned = [row for row in at if row["seed"] < REPORTING_SEEDS]
        assert {row["seed"] for row in tuned} == {0, 1}, "every seed has rows of its own"
        first = statistics.fmean(row["val_aulc"] for row in tuned if row["n_labels"] == 10)
        assert trial.intermediate_values == pytest.approx({10: first})
        if trial.state.name == "PRUNED":
            assert {row["n_labels"] for row in tuned} == {10}, "it bought no label behind the rung"
        else:
            last = [row["val_aulc"] for row in tuned if row["n_labels"] == 30]
            assert trial.value == pytest.approx(statistics.fmean(last))
    assert study(folder, "latent_dim").best_trial.params["learning_rate"] == 0.01


def test_the_best_is_confirmed_on_fresh_seeds(halved: tuple[Path, str]) -> None:
    folder, shown = halved
    fresh = [row for row in rows(folder, n_labels=30) if row["seed"] >= REPORTING_SEEDS]
    arms = {
        name: {row["seed"]: row["val_aulc"] for row in fresh if row["strategy"] == name}
        for name in ("snn", "random")
    }
    assert set(arms["snn"]) == set(arms["random"]) == {REPORTING_SEEDS, REPORTING_SEEDS + 1}
    assert {row["learning_rate"] for row in fresh} == {0.01}, "the baseline trains as the winner does"
    gain = statistics.fmean(arms["snn"][seed] - arms["random"][seed] for seed in arms["snn"])
    line = shown.split("AULC confirmed")[1].split("\n")[1]
    assert f"{study(folder, 'latent_dim').best_value:.4g}" in line
    assert f"{statistics.fmean(arms['snn'].values()):.4f} ±" in line
    assert f"{gain:+.4f}" in line


def test_nothing_of_a_finished_search_is_run_again(halved: tuple[Path, str]) -> None:
    folder, shown = halved
    before = sorted(path.name for path in (folder / "records").iterdir())
    again = sweep("latent_dim.py", folder, *HALVED, "--resume")
    assert again.returncode == 0, again.stderr
    assert sorted(path.name for path in (folder / "records").iterdir()) == before
    assert again.stdout == shown


@pytest.mark.parametrize("experiments", [3, 8], ids=["in the search", "while confirming"])
def test_a_killed_search_is_resumed_to_the_same_end(
    experiments: int, halved: tuple[Path, str], tmp_path: Path
) -> None:
    undisturbed, shown = halved
    folder = tmp_path / "results"
    with started("latent_dim.py", folder, *HALVED) as process:
        until(lambda: len(list((folder / "records").glob("*.rounds.arrow"))) >= experiments, 280)
        os.kill(process.pid, signal.SIGKILL)
    resumed = sweep("latent_dim.py", folder, *HALVED, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert lasting("rounds", folder).equals(lasting("rounds", undisturbed))

    def told(folder: Path) -> list[Any]:
        trials = study(folder, "latent_dim").trials
        return [(trial.state, trial.params, trial.value, trial.intermediate_values) for trial in trials]

    assert told(folder) == told(undisturbed)
    assert resumed.stdout.split("Generators")[0] == shown.split("Generators")[0]


def test_a_dry_run_counts_measures_and_is_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    words = ["--search", "latent_dim=int(2,4)", "--trials", "3", "--fix", "alpha=0.5"]
    dry = sweep("latent_dim.py", folder, *words, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "Trials left: 3, of 3 experiments; 0 finished before." in dry.stdout
    assert "Labels to be bought: at most 90 to train on and 90 to validate on" in dry.stdout
    assert "Generators to be trained: 3, 0 are in the cache." in dry.stdout
    assert "Time for what is left" in dry.stdout
    assert states(folder) == ["COMPLETE"]
    (first,) = rows(folder, t=3)
    assert (first["alpha"], first["latent_dim"], first["round_size"]) == (0.5, 3, 10)
    done = sweep("latent_dim.py", folder, *words, "--resume")
    assert done.returncode == 0, done.stderr
    assert states(folder) == ["COMPLETE"] * 3
    assert {row["attempt"] for row in rows(folder)} == {0}, "what was measured is kept"


def test_an_interrupted_search_tells_no_value_of_what_is_not_finished(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    words = ["--trials", "3", "--iterations", "150"]
    with started("latent_dim.py", folder, *words) as process:
        until(lambda: any(path.stat().st_size for path in (folder / "records").glob("*.rounds.arrow")))
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert set(states(folder)) <= {"RUNNING", "COMPLETE"}
    assert "RUNNING" in states(folder)
    resumed = sweep("latent_dim.py", folder, *words, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    trials = study(folder, "latent_dim").trials
    last = {row["alpha"]: row["val_aulc"] for row in rows(folder, n_labels=30)}
    assert {trial.params["alpha"]: trial.value for trial in trials} == last


def test_a_front_shows_labels_against_the_oracles_time(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    words = ["--objectives", "aulc,oracle_seconds", "--latent-dim", "3", "--trials", "3"]
    done = sweep("joint.py", folder, *words)
    assert done.returncode == 0, done.stderr
    for trial in study(folder, "joint").trials:
        at = rows(folder, alpha=trial.params["alpha"])
        seconds = sum(row["label_seconds"] for row in at)
        assert trial.values == pytest.approx([at[-1]["val_aulc"], seconds])
    front = done.stdout.split("oracle seconds")[1]
    for trial in study(folder, "joint").best_trials:
        assert f"{trial.values[1]:.4g}" in front


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two step sizes for each of two latent dimensions."""
    folder = tmp_path_factory.mktemp("stepped") / "results"
    done = sweep("step_size.py", folder, "--search", "latent_dim=choice(2,3)", "--trials", "4")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_every_latent_dimension_has_its_own_best_step_size(stepped: tuple[Path, str]) -> None:
    folder, shown = stepped
    last = rows(folder, n_labels=30)
    table = shown.split("The best of 4 trials for each latent_dim")[1].splitlines()
    for n, line in zip((2, 3), table[2:4], strict=True):
        tried = {row["val_aulc"]: row["alpha"] for row in last if row["latent_dim"] == n}
        assert len(tried) == 2
        assert line.split()[:3] == [f"{tried[max(tried)]:.4g}", str(n), f"{max(tried):.4g}"]


def test_a_search_starts_from_an_earlier_one(stepped: tuple[Path, str], tmp_path: Path) -> None:
    earlier, folder = stepped[0], tmp_path / "results"
    words = ["--warm-start", str(earlier), "--trials", "2", "--latent-dim", "3"]
    done = sweep("latent_dim.py", folder, *words)
    assert done.returncode == 0, done.stderr
    assert f"Warm start: 2 of 4 finished trials of {earlier}" in done.stderr
    trials = study(folder, "latent_dim").trials
    known = {row["alpha"]: row["val_aulc"] for row in rows(earlier, n_labels=30, latent_dim=3)}
    assert {t.params["alpha"]: t.value for t in trials if t.user_attrs} == known
    assert len(rows(folder, t=1)) == len(trials) - 2 == 2, "what an earlier search ran is not run again"


def test_an_ablation_switches_one_part_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    done = sweep("ablation.py", folder, "--seeds", "2", "--label-budget", "20", "--iterations", "5")
    assert done.returncode == 0, done.stderr
    found = rows(folder, t=2)
    assert len(found) == 2 * 11
    parts = (
        "direction",
        "normalise",
        "redraw_every",
        "exclude_labelled",
        "decoded",
        "retrain",
        "codes",
        "decoded_beside",
    )
    base = next(
        row
        for row in found
        if row["strategy"] == "snn"
        and [row[name] for name in parts] == ["gradient", True, 1, True, False, False, "mean", None]
    )
    for row in found:
        if row["strategy"] == "snn":
            assert sum(row[name] != base[name] for name in parts) <= 1
    assert "grey or mask input" in " ".join(done.stdout.split()).split("no such part")[1]
    changed = {row["seed"]: row["test_metric"] for row in found if row["retrain"]}
    gain = statistics.fmean(
        changed[row["seed"]] - row["test_metric"]
        for row in found
        if row["configuration"] == base["configuration"]
    )
    (line,) = [line for line in done.stdout.splitlines() if "retrain true" in line]
    assert f"{100 * gain:+.2f}" in line  # in points of accuracy


def test_the_league_has_the_arms_that_are_asked_for_on_paired_seeds(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    short = ("--seeds", "2", "--label-budget", "20", "--iterations", "5", "--generator-iterations", "20")
    done = sweep("peers.py", folder, "--arms", "margin,snn", *short)
    assert done.returncode == 0, done.stderr
    table = done.stdout.split("League on digits: 20 labels")[1].split("Mean ±")[0]
    assert {"random", "margin", "snn", "snn,"} <= {line.split()[0] for line in table.splitlines()[2:] if line}
    found = rows(folder, t=1)
    assert Counter(row["strategy"] for row in found) == {"random": 2, "margin": 2, "snn": 4}
    for seed in (0, 1):  # the first round is the same draw for all, and so is what F learns from it
        assert len({row["test_metric"] for row in found if row["seed"] == seed}) == 1


def test_every_arm_is_tuned_at_the_same_cost_and_plays_with_what_was_best(tmp_path: Path) -> None:
    tuning, league = tmp_path / "tuning", tmp_path / "league"
    short = ("--arms", "snn", "--seeds", "1", "--label-budget", "20", "--iterations", "5",
             "--generator-iterations", "20")  # fmt: skip
    done = sweep("peers.py", tuning, "--tune", "2", *short)
    assert done.returncode == 0, done.stderr
    found = rows(tuning, t=2)
    assert Counter((row["strategy"], row["direction"]) for row in found) == {
        ("random", None): 2, ("snn", "gradient"): 2, ("snn", "random"): 2,
    }  # fmt: skip
    assert {row["seed"] for row in found} == {TUNING_SEED}
    assert len({row["learning_rate"] for row in found}) == 2  # the same draws for all arms
    done = sweep("peers.py", league, "--tuned", str(tuning), *short)
    assert done.returncode == 0, done.stderr
    for row in rows(league, t=2):
        same = [r for r in found if (r["strategy"], r["direction"]) == (row["strategy"], row["direction"])]
        (as_tried,) = [
            r for r in same if r["learning_rate"] == row["learning_rate"] and r["alpha"] == row["alpha"]
        ]
        assert as_tried["val_aulc"] == max(r["val_aulc"] for r in same)
        assert row["seed"] == 0
    short = (*short[:1], "margin", *short[2:])
    done = sweep("peers.py", tmp_path / "other", "--tuned", str(tuning), *short)
    assert done.returncode == 2
    assert "holds no tuning of the arm margin" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [(("--arms", "margni"), "--arms has 'margni'"), (("--arms", "committee"), "--arms has 'committee'"),
     (("--strategy", "snn"), "give --arms in the place of --strategy"),
     (("--tune", "1"), "--tune is 1; give 2 or more"), (("--tune", "2", "--tuned", "x"), "give one of the two"),
     (("--tuned", "nowhere"), "nowhere holds no tuning")],
)  # fmt: skip
def test_a_league_that_cannot_be_is_told_at_once(words: tuple[str, str], told: str, tmp_path: Path) -> None:
    done = sweep("peers.py", tmp_path / "results", *words)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())


def test_a_request_that_can_never_be_met_is_refused_at_once(tmp_path: Path) -> None:
    done = sweep("latent_dim.py", tmp_path / "results", "--gpus-per-trial", "64")
    assert done.returncode == 2
    assert "64 GPUs, where the largest has" in done.stderr
    assert not (tmp_path / "results").exists()
