"""A sweep on a file system that is full: told in a sentence, and gone on with once there is room."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from alss_ray import reading

ROOT = Path(__file__).parent.parent


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that holds a study and one checkpoint of the network, but not two."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1100k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # Ray may still be ending


def test_a_sweep_goes_on_once_there_is_room(small: Path, tmp_path: Path) -> None:
    words = [
        sys.executable, str(ROOT / "sweeps" / "latent_dim.py"), "--results", str(small / "results"), "--cache",
        str(tmp_path / "generators"), "--task", "digits", "--trials", "2", "--round-size", "10", "--label-budget",
        "20", "--iterations", "12", "--latent-dim", "2", "--generator-iterations", "50", "--concurrency", "1",
    ]  # fmt: skip

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*words, *more], capture_output=True, text=True, timeout=300, env=os.environ | {"COLUMNS": "150"}
        )

    full = run()
    assert full.returncode == 1, full.stderr
    assert "make room there and go on with --resume" in full.stderr
    assert "Traceback" not in full.stderr
    assert subprocess.run(["mount", "-o", "remount,size=64m", str(small)]).returncode == 0
    resumed = run("--resume")
    assert resumed.returncode == 0, resumed.stderr
    found = reading.read("rounds", [small / "results"])
    assert found.table["n_labels"].to_pylist() == [10, 20] * 2
    study = optuna.load_study(study_name="latent_dim", storage=f"sqlite:///{small / 'results' / 'study.db'}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]
