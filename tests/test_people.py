"""Experiments and sweeps whose labels people give: they wait without a process, and end as if nobody had waited."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import time
from collections import Counter
from pathlib import Path

import annotator
import pytest
import torch
from helpers import lasting, tiny
from rich.console import Console
from sweeping import SMALL, started, sweep, until

from alss_ray import reading
from alss_ray.__main__ import run as command
from alss_ray.cli import guarded
from alss_ray.config import Experiment, Waiting
from alss_ray.experiment import Run
from alss_ray.generators.store import GeneratorStore
from alss_ray.materials import materials
from alss_ray.places import Place
from alss_ray.tasks import Digits
from alss_ray.waiting import patiently

WORDS = ["--task", "digits", "--oracle", "folder", "--label-budget", "20"]
spawner = multiprocessing.get_context("forkserver")
spawner.set_forkserver_preload(["torch", "sklearn.datasets", "alss_ray.experiment"])


def places(home: Path) -> list[str]:
    return ["--inbox", str(home / "inbox"), "--labels", str(home / "labels")]


def asking(home: Path) -> Experiment:
    """Two rounds of ten labels and twenty to validate on, all of them people's."""
    task = Digits(oracle="folder", inbox=home / "inbox", labels=Place(home / "labels"))
    return tiny(task, label_budget=20)


def run(home: Path) -> None:
    experiment = asking(home)
    source = GeneratorStore(home.parent / "generators")
    for _ in Run(experiment, materials(experiment.task).cached(), home / "results", source).rounds():
        pass


def stay(home: Path, told: Path) -> None:
    """Run the experiment in a process that waits for people, and writes down what it tells them."""
    torch.set_num_threads(1)
    with open(told, "w", buffering=1) as file:
        patiently(lambda: run(home), True, Console(file=file))


def test_labels_in_unequal_batches_with_kills_between_end_in_the_same_records(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("at-once", "bit-by-bit")]
    asked = True
    while asked:
        try:
            run(homes[0])
        except Waiting:
            asked = annotator.label(homes[0] / "inbox") > 0
        else:
            break
    assert asked
    for k, share in enumerate(itertools.cycle((13, 17, 4))):
        told = tmp_path / f"told-{k}"
        process = spawner.Process(target=stay, args=(homes[1], told))
        process.start()
        until(
            lambda p=process, f=told: (
                not p.is_alive() or (f.exists() and f.read_text().startswith("Waiting for "))
            )
        )
        if not process.is_alive():
            assert process.exitcode == 0
            break
        process.kill()
        process.join()
        assert annotator.label(homes[1] / "inbox", share)
    assert k > 3
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


def test_a_run_stops_with_a_status_of_its_own_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, *WORDS, "--strategy", "random", *places(tmp_path), "--out", str(tmp_path / "results")]
    assert guarded(lambda: command(words)) == 3
    *told, then = capsys.readouterr().err.splitlines()
    assert "".join(told) == (
        f"Waiting for 20 of 20 labels for the validation set: give them in {tmp_path / 'inbox'}/001-round-1 (has 0 of "
        f"10) and {tmp_path / 'inbox'}/002-validation-set (has 0 of 20)."
    )
    assert then == f"Then add --out {tmp_path / 'results'} --resume to the same command."
    assert not list((tmp_path / "results").glob("records/*"))
    for rounds in (1, 2):
        annotator.label(tmp_path / "inbox", skipping=False)
        assert guarded(lambda: command([*words, "--resume"])) == (3 if rounds == 1 else 0)
    assert len(reading.read("rounds", [tmp_path / "results"]).table) == 2


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
