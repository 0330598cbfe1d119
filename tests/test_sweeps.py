"""The sweep scripts on a real local Ray: what they show, share and refuse."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from helpers import buyers, lasting, sold, tiny
from sweeping import environment, states, sweep, until

from alss_ray import reading
from alss_ray.generators import AlphaGan
from alss_ray.tasks import Digits


def test_table_1_shows_its_records(tmp_path: Path) -> None:
    words = ["--seeds", "2", "--task", "helpers:LedgerDigits", "--ledger", str(tmp_path / "ledger")]
    done = sweep("table1.py", tmp_path / "results", *words)
    assert done.returncode == 0, done.stderr
    rows = reading.read("rounds", [tmp_path / "results"]).table.to_pylist()
    assert {(row["strategy"], row["direction"], row["seed"]) for row in rows} == {
        (strategy, direction, seed)
        for strategy, direction in (("random", None), ("snn", "gradient"), ("snn", "random"), ("snn", "none"))
        for seed in (0, 1)
    }
    last = [row["test_metric"] for row in rows if row["strategy"] == "random" and row["t"] == 3]
    assert f"{50 * sum(last):.2f} ± {50 * 2**0.5 * abs(last[0] - last[1]):.2f}" in done.stdout
    assert len(sold(tmp_path / "ledger")) == 8 * (30 + 30)
    generators = {(row["generator_key"], row["experiment"]) for row in rows if row["generator_trained"]}
    assert len(generators) == 1, "one generator is trained and shared by all arms and seeds"


def test_table_1_has_the_arms_of_every_latent_space_that_is_asked_for() -> None:
    table1 = runpy.run_path(str(Path(__file__).parents[1] / "sweeps" / "table1.py"))
    base = tiny()
    options = table1["Table1Options"](generators=("vae", "alpha_gan"), latent_dims=(3, 16))
    arms = table1["arms"](base, options)
    assert len(arms) == 1 + 2 * 2 * 3
    assert arms["random"].generator is None
    assert arms["SNN, vae n = 16"].generator == dataclasses.replace(base.generator, latent_dim=16)
    gan = arms["SNN, random direction, alpha_gan n = 3"].generator
    # What suits the task, and not the variational auto-encoder's own learning rate.
    assert gan == AlphaGan(latent_dim=3, generator_iterations=Digits.defaults["generator_iterations"])
    names = ["random", "SNN", "SNN, random direction", "SNN, α = 0"]
    assert [*table1["arms"](base, table1["Table1Options"]())] == names
    assert [*table1["arms"](base, table1["Table1Options"](controls=("random",)))] == names[:3]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("searched") / "results"
    done = sweep("latent_dim.py", folder, "--trials", "3")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_search_shows_the_best_and_keeps_its_study(searched: tuple[Path, str]) -> None:
    folder, shown = searched
    assert states(folder) == ["COMPLETE"] * 3
    study = optuna.load_study(study_name="latent_dim", storage=f"sqlite:///{folder / 'study.db'}")
    rows = [row for row in reading.read("rounds", [folder]).table.to_pylist() if row["n_labels"] == 30]
    for trial in study.trials:
        same = [row for row in rows if all(row[name] == value for name, value in trial.params.items())]
        assert [row["val_aulc"] for row in same] == [trial.value]
    best = study.best_trial
    assert f"{best.value:.4g}" in re.split(r"\n", shown.split("experiment\n")[1])[0]
    assert f"{best.params['alpha']:.4g}" in shown
    assert "python analysis/curves.py" in shown


def test_a_search_goes_on_where_it_stopped(searched: tuple[Path, str]) -> None:
    folder, _ = searched
    more = sweep("latent_dim.py", folder, "--trials", "4", "--resume")
    assert more.returncode == 0, more.stderr
    assert states(folder) == ["COMPLETE"] * 4
    alphas = set(reading.read("rounds", [folder]).table["alpha"].to_pylist())
    assert len(alphas) == 4, "a resumed search draws new points"


def test_an_oracle_service_sells_each_label_once_to_all_trials_and_sweeps(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    words = [
        "--task",
        "helpers:BoughtDigits",
        "--ledger",
        str(ledger),
        "--trials",
        "2",
        "--oracle-workers",
        "1",
    ]
    first = sweep("latent_dim.py", tmp_path / "first", *words)
    assert first.returncode == 0, first.stderr
    assert len(buyers(ledger)) == 1, "one worker labels for all trials"
    before = sold(ledger)
    assert len(before) == len(set(before))
    rows = reading.read("rounds", [tmp_path / "first"]).table
    assert sum(rows["oracle_calls"].to_pylist()) == 2 * 30
    assert sum(rows["oracle_bought"].to_pylist()) + 30 == len(
        before
    )  # 30 to validate on, bought once for both
    again = sweep("latent_dim.py", tmp_path / "second", *words)
    assert again.returncode == 0, again.stderr
    assert sold(ledger) == before, "a second sweep over the same images buys nothing"
    assert set(reading.read("rounds", [tmp_path / "second"]).table["oracle_bought"].to_pylist()) == {0}
    assert (
        lasting("rounds", tmp_path / "first")
        .drop(["oracle_bought"])
        .equals(lasting("rounds", tmp_path / "second").drop(["oracle_bought"]))
    )


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a Ray cluster of one machine, as `ray start` makes it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Ray leaves a note in its folder that sends later programs to this cluster; the path must be short.
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    start = [
        "ray",
        "start",
        "--head",
        "--block",
        "--num-cpus",
        "2",
        "--include-dashboard=false",
        "--port",
        str(port),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", "from ray.scripts.scripts import main; main()", *start[1:]],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env=environment() | {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": scratch},
    )  # fmt: skip

    def answers() -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        return False

    try:
        until(answers, 60)
        yield f"127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its servers are of the group, and workers end with them
        process.wait(30)
        shutil.rmtree(scratch, ignore_errors=True)


def test_the_same_script_runs_on_a_cluster_that_is_there(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    done = sweep("latent_dim.py", tmp_path / "named", "--trials", "1", "--address", cluster)
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    done = sweep("latent_dim.py", tmp_path / "environment", "--trials", "1")
    assert done.returncode == 0, done.stderr
    assert lasting("rounds", tmp_path / "named").equals(lasting("rounds", tmp_path / "environment"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--trials", "4"], "holds this sweep already; add --resume"),
        (["--resume", "--alpha", "2"], "cannot be resumed with other settings: space.alpha was"),
        (["--resume", "--iterations", "13"], "experiment.iterations was 12, now 13"),
    ],
)
def test_a_folder_with_another_sweep_is_refused(
    words: list[str], sentence: str, searched: tuple[Path, str]
) -> None:
    done = sweep("latent_dim.py", searched[0], *words)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_a_failing_experiment_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    done = sweep("latent_dim.py", tmp_path / "results", "--trials", "2", "--learning-rate", "1e30")
    assert done.returncode == 1
    assert "Training diverged in round 1" in done.stderr
    assert "Traceback" not in done.stderr
    assert states(tmp_path / "results") == ["FAIL", "FAIL"]
    told = reading.read("failures", [tmp_path / "results"]).table["failure"].to_pylist()
    assert [text.split(":")[0] for text in told] == ["Training diverged in round 1"] * 2


@pytest.mark.parametrize(
    ("script", "words", "sentence"),
    [
        ("latent_dim.py", ["--trials", "0"], "--trials is 0"),
        ("latent_dim.py", ["--cpus-per-trial", "0"], "--cpus-per-trial is 0"),
        ("latent_dim.py", ["--strategy", "random"], "has no alpha to search"),
        ("latent_dim.py", ["--round-size", "700", "--label-budget", "700"], "exceed the pool of 1347"),
        ("latent_dim.py", ["--address", "127.0.0.1:1"], "No Ray cluster answers at '127.0.0.1:1'"),
        ("table1.py", ["--seeds", "0"], "--seeds is 0"),
        ("table1.py", ["--task", "mnist", "--data-dir", "nowhere"], "give the folder with --data-dir"),
    ],
)
def test_bad_input_is_told_before_any_trial(
    script: str, words: list[str], sentence: str, tmp_path: Path
) -> None:
    done = sweep(script, tmp_path / "results", *words)
    assert done.returncode == 2, done.stderr
    assert sentence in " ".join(done.stderr.split())
    assert not (tmp_path / "results" / "records").exists()
