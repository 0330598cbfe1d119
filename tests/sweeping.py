"""What the tests of sweeps share: the scripts on a small search, run to their end or under the test's hand."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna

from alss_ray.places import Place

ROOT = Path(__file__).parent.parent
SMALL = ["--round-size", "10", "--label-budget", "30", "--iterations", "12", "--evaluate-every", "5",
         "--validation-share", "1.0"]  # fmt: skip


def command(script: str, folder: Path | Place, *words: str) -> list[str]:
    generator = [] if "random" in words else ["--generator-iterations", "200"]
    places = ["--results", str(folder)]
    if "--cache" not in words:
        places += ["--cache", str(folder.parent / "generators")]
    task = [] if "--task" in words else ["--task", "digits"]
    return [sys.executable, str(ROOT / "sweeps" / script), *places, *SMALL, *generator, *task, *words]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT / "tests"), "COLUMNS": "150"}


def sweep(script: str, folder: Path | Place, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(script, folder, *words), capture_output=True, text=True, timeout=300, env=environment()
    )


@contextlib.contextmanager
def started(script: str, folder: Path | Place, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A sweep in a process group of its own, which is gone afterwards whatever happens."""
    process = subprocess.Popen(
        command(script, folder, *words),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait for something to become true."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not come about in time"
        time.sleep(0.02)


def states(folder: Path) -> list[str]:
    """The states of the study's trials."""
    study = optuna.load_study(study_name="latent_dim", storage=f"sqlite:///{folder / 'study.db'}")
    return [trial.state.name for trial in study.trials]
