"""Experiments and sweeps whose labels people give: they wait without a process, and end as if nobody had waited."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import annotator
import pytest
from helpers import lasting
from sweeping import ROOT, SMALL, environment, sweep, until

from alss_ray import reading

RUN = ["--task", "digits", "--oracle", "folder", *SMALL, "--strategy", "snn", "--generator-iterations", "30"]
SKIPPED = (261, 707, 1001)


def command(home: Path, out: str, *words: str) -> list[str]:
    places = ["--inbox", str(home / out / "inbox"), "--labels", str(home / out / "labels")]
    places += ["--out", str(home / out / "results"), "--cache", str(home / "generators")]
    return [sys.executable, "-m", "alss_ray", "run", *RUN, *places, *words]


def run(home: Path, out: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(home, out, *words), capture_output=True, text=True, timeout=300, env=environment()
    )


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment whose every question was answered in full before it was resumed."""
    home = tmp_path_factory.mktemp("people")
    answer = run(home, "at-once")
    for _ in range(4):
        assert answer.returncode == 3, answer.stderr
        annotator.label(home / "at-once" / "inbox", skip=SKIPPED)
        answer = run(home, "at-once", "--resume")
        if answer.returncode == 0:
            break
    assert answer.returncode == 0, answer.stderr
    return home


def test_labels_in_unequal_batches_with_kills_between_end_in_the_same_records(at_once: Path) -> None:
    """Three returns for each question, of unequal sizes; the process is killed while it stays for them."""
    home, inbox = at_once, at_once / "bit-by-bit" / "inbox"
    resume: list[str] = []
    for share in (13, 2, 25, 3, 6, 1, 4, 4, 2):
        process = subprocess.Popen(
            command(home, "bit-by-bit", "--wait", *resume), stderr=subprocess.PIPE, text=True, env=environment()
        )
        try:
            assert process.stderr is not None
            told = process.stderr.readline()
            assert told.startswith("Waiting for "), told
            os.kill(process.pid, signal.SIGKILL)
        finally:
            process.kill()
            process.wait(30)
            process.stderr.close()
        resume = ["--resume"]
        assert annotator.label(inbox, share, SKIPPED)
    while annotator.label(inbox, skip=SKIPPED):
        answer = run(home, "bit-by-bit", "--resume")
    assert answer.returncode == 0, answer.stderr
    for kind in ("rounds", "curves"):
        one, other = (lasting(kind, home / name / "results") for name in ("at-once", "bit-by-bit"))
        assert one.equals(other)
    labels = reading.read("labels", [home / "bit-by-bit" / "results"]).table.to_pylist()
    assert {row["refusal"] for row in labels if row["sample"] in SKIPPED} <= {"skipped"}
    assert all(row["asked_at"] < row["came_at"] for row in labels)
    assert {row["t"] for row in labels} == {0, 1, 2, 3}
    assert all(row["predicted"] is not None and row["gradient_norm"] > 0 for row in labels if row["t"] > 1)
