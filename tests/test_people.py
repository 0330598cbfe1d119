"""Experiments and sweeps whose labels people give: they wait without a process, and end as if nobody had waited."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import annotator
from helpers import lasting
from sweeping import SMALL, environment, started, sweep

from alss_ray import reading

WORDS = ["--task", "digits", "--oracle", "folder", "--label-budget", "20"]


def places(home: Path) -> list[str]:
    return ["--inbox", str(home / "inbox"), "--labels", str(home / "labels")]


def command(home: Path, *words: str) -> list[str]:
    own = ["--strategy", "snn", "--generator-iterations", "30", "--out", str(home / "results")]
    cache = ["--cache", str(home.parent / "generators")]
    return [sys.executable, "-m", "alss_ray", "run", *SMALL, *WORDS, *places(home), *own, *cache, *words]


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(home, *words), capture_output=True, text=True, timeout=300, env=environment()
    )


def finished(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Answer every question in full, until there is none any more."""
    while (answer := run(home, *words)).returncode == 3:
        assert annotator.label(home / "inbox"), answer.stderr
        words = ("--resume",)
    return answer


def test_labels_in_three_unequal_batches_with_kills_between_end_in_the_same_records(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("at-once", "bit-by-bit")]
    assert finished(homes[0]).returncode == 0
    resume: list[str] = []
    for share in (13, 17, 1):
        process = subprocess.Popen(
            command(homes[1], "--wait", *resume), stderr=subprocess.PIPE, text=True, env=environment()
        )
        with process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("Waiting for ")
            os.kill(process.pid, signal.SIGKILL)
        resume = ["--resume"]
        assert annotator.label(homes[1] / "inbox", share) == share
    last = finished(homes[1], "--resume")
    assert last.returncode == 0, last.stderr
    for kind in ("rounds", "curves"):
        one, other = (lasting(kind, home / "results") for home in homes)
        assert one.equals(other)
    labels = reading.read("labels", [homes[1] / "results"]).table.to_pylist()
    assert {row["t"] for row in labels} == {0, 1, 2}
    for row in labels:
        assert (row["refusal"] == "skipped") == (row["sample"] % annotator.SKIPS == 0)
        assert row["asked_at"] < row["came_at"]
        assert (row["t"] < 2) or (row["gradient_norm"] > 0 and 0 <= row["margin"] <= 1)
    assert any(row["refusal"] and row["t"] == 0 for row in labels)
    rounds = reading.read("rounds", [homes[1] / "results"]).table.to_pylist()
    assert sum(row["n_new"] for row in rounds) == 20
    assert sum(row["oracle_bought"] for row in rounds) == sum(row["t"] > 0 for row in labels)


def test_trials_that_wait_for_the_same_images_ask_once_and_go_on_together(tmp_path: Path) -> None:
    """Random selection and margin sampling on one seed share the validation set and the first round."""
    words = ["--arms", "margin", "--seeds", "1", "--concurrency", "2", *WORDS, *places(tmp_path)]
    answer = sweep("peers.py", tmp_path / "results", *words)
    assert answer.returncode == 3, answer.stderr
    assert "2 trials wait for people. Waiting for 20 of 20 labels" in answer.stderr
    assert annotator.label(tmp_path / "inbox", skipping=False) == 30
    with started("peers.py", tmp_path / "results", *words, "--resume", "--wait") as process:
        while process.poll() is None:
            annotator.label(tmp_path / "inbox", skipping=False)
            time.sleep(0.5)
        assert process.returncode == 0, process.stderr.read()
    asked = [
        row
        for m in (tmp_path / "inbox").glob("[0-9]*/asked.json")
        for row in json.loads(m.read_text())["images"]
    ]
    assert len({entry["key"] for entry in asked}) == len(asked)
    records = {
        kind: reading.read(kind, [tmp_path / "results"]).table.to_pylist() for kind in ("rounds", "labels")
    }
    assert Counter(row["strategy"] for row in records["rounds"]) == {"random": 2, "margin": 2}
    assert {row["t"] for row in records["labels"]} == {0, 1, 2}
    first = [row for row in records["labels"] if row["t"] == 1]
    assert len({row["experiment"] for row in first}) == 2
    assert len({row["asker"] for row in first if row["ordinal"] == 0}) == 1
    assert sum(row["oracle_bought"] for row in records["rounds"] if row["t"] == 1) == 10
