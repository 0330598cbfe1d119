"""What the cluster tests share: programs that stand in for others, a small sweep, and waiting."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SWEEP = (
    "python sweeps/latent_dim.py --task digits --round-size 10 --label-budget 30 --iterations 12 --evaluate-every 5 "
    "--generator-iterations 50"
)


def program(folder: Path, name: str, text: str) -> None:
    """A program in a folder: a script with its interpreter named in the first line."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def environment(folder: Path) -> None:
    """The `python` and the `ray` that run this test, as those of an installed environment."""
    program(folder, "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    main = "from ray.scripts.scripts import main; main()"
    program(folder, "ray", f'#!/bin/sh\nexec {sys.executable} -c "{main}" "$@"\n')


def until(reached: Callable[[], bool], seconds: float = 120.0, pause: float = 0.2) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "not reached in time"
        time.sleep(pause)
