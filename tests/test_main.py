"""The command `python -m alss_ray run`, as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from alss_ray import reading

TINY = ["--rounds", "2", "--round-size", "10", "--iterations", "5", "--threads", "1"]


def alss(*words: str | Path, blocked: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with some packages made impossible to import."""
    program = f"""
import runpy, sys
for name in {blocked!r}:
    sys.modules[name] = None
sys.argv[1:] = {[str(word) for word in words]!r}
runpy.run_module("alss_ray", run_name="__main__", alter_sys=True)
"""
    return subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, timeout=120)


def test_an_experiment_runs_where_ray_and_optuna_are_not_installed(tmp_path: Path) -> None:
    words = [*TINY, "--alpha", "0.3", "--generator-iterations", "5"]
    done = alss("run", *words, "--out", tmp_path / "out", blocked=("ray", "optuna"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:4] for line in lines[:2]] == [
        ["round", "1", "labels", "10"],
        ["round", "2", "labels", "20"],
    ]
    table = reading.read("rounds", [tmp_path / "out"]).table
    assert table["alpha"].to_pylist() == [0.3, 0.3]
    assert f"{table['test_metric'][1].as_py():.4f}" in lines[1]
    assert "python analysis/query.py" in done.stdout
    assert "python analysis/curves.py" in done.stdout
    about = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {"command", "versions", "git_commit", "host", "cpu", "started_at"} <= set(about)


def test_the_same_folder_is_resumed_only_when_asked(tmp_path: Path) -> None:
    words = ["run", *TINY, "--strategy", "random", "--out", str(tmp_path)]
    assert alss(*words).returncode == 0
    again = alss(*words)
    assert again.returncode == 2
    assert "add --resume" in again.stderr
    resumed = alss(*words, "--resume")
    assert resumed.returncode == 0
    assert "nothing is left to do" in resumed.stdout


def test_a_full_disk_is_told_and_the_run_goes_on_once_there_is_room(tmp_path: Path) -> None:
    """On a file system of half a megabyte, which holds one checkpoint of the network but not two."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=620k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        words = ["run", *TINY, "--strategy", "random", "--out", str(small / "out")]
        full = alss(*words)
        assert full.returncode == 1
        assert "No space left on device" in full.stderr
        assert "go on with --resume" in full.stderr
        assert "Traceback" not in full.stderr
        assert subprocess.run(["mount", "-o", "remount,size=8m", str(small)]).returncode == 0
        resumed = alss(*words, "--resume")
        assert resumed.returncode == 0, resumed.stderr
        found = reading.read("rounds", [small / "out"])
        assert found.table["n_labels"].to_pylist() == [10, 20]
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--task", "digit"], "There is no task 'digit'; did you mean 'digits'?"),
        (["--strategy", "snm"], "did you mean 'snn'?"),
        (["--strategy", "no.such:Thing"], "cannot be imported"),
        (["--strategy", "json:JSONDecoder"], "is not a dataclass"),
        (["--alpha", "0"], "alpha is 0.0; give a finite step length above 0"),
        (["--alpha", "nan"], "alpha is nan"),
        (["--alpha=-1"], "alpha is -1.0"),
        (["--latent-dim", "0"], "latent_dim is 0; give 1 or more"),
        (["--round-size", "0"], "round_size is 0"),
        (["--round-size", "400"], "label budget of 300 is below one round of 400"),
        (["--label-budget", "5"], "label budget of 5 is below one round of 20"),
        (["--round-size", "1400", "--label-budget", "1400"], "larger than the pool of 1347"),
        (["--task", "mnist", "--data-dir", "nowhere"], "looked for train-images-idx3-ubyte"),
        (["--rounds", "0"], "--rounds is 0"),
        (["--threads", "0"], "--threads is 0"),
        (["--trajectories", "-1"], "--trajectories is -1"),
        (["--trajectories", "9"], "those of snn as it is do not; take --strategy snn --redraw-every 0"),
        (["--trajectories", "9", "--strategy", "random"], "those of random as it is do not"),
        (["--trajectories", "9", "--redraw-every", "0", "--latent-dim", "1"], "latent_dim is 1; give"),
        (
            ["--trajectories", "9", "--redraw-every", "0", "--strategy", "snn", "--task", "ivus"],
            "ivus are maps",
        ),
        (["--resume", "--out", "nowhere"], "nothing to resume"),
        (["--learning-rate", "inf"], "learning_rate is inf"),
        (["--colour", "red"], "--colour"),
        (["--strategy", "random", "--alpha", "1"], "--alpha"),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(
    words: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from alss_ray.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["alss_ray", "run", *words])
    try:
        status = main()
    except SystemExit as error:
        status = error.code
    told = capsys.readouterr()
    assert status == 2
    assert sentence in " ".join(told.err.replace("│", " ").split())
    assert not told.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("words", "status"), [([], 2), (["walk"], 2), (["--help"], 0)])
def test_the_command_itself(
    words: list[str], status: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from alss_ray.__main__ import main

    monkeypatch.setattr(sys, "argv", ["alss_ray", *words])
    assert main() == status
    assert "run" in "".join(capsys.readouterr())
