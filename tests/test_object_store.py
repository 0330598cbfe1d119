"""Results, labels and generators on an object store: the same as local ones, whatever is killed or out of reach."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import BoughtDigits, lasting, sold, tiny
from object_store import ObjectStore

from alss_ray import places
from alss_ray.config import Experiment
from alss_ray.experiment import Run
from alss_ray.files import StoreError
from alss_ray.generators.store import GeneratorStore
from alss_ray.materials import materials
from alss_ray.places import Place
from alss_ray.records import RecordWriter

ROOT = Path(__file__).parent.parent
RUN = ["-m", "alss_ray", "run", "--rounds", "3", "--round-size", "10", "--iterations", "80", "--evaluate-every",
       "20", "--generator-iterations", "30", "--threads", "1"]  # fmt: skip


def started(*words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")}, start_new_session=True,
    )  # fmt: skip


def done(*words: str | Path) -> str:
    """What a command prints that ends well."""
    process = started(*words)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def killed(when: Callable[[], bool], *words: str | Path) -> None:
    """Start a command and kill it, and what it started, as soon as something is so."""
    process = started(*words)
    try:
        limit = time.monotonic() + 200
        while not when():
            assert process.poll() is None, "it ended before it was to be killed"
            assert time.monotonic() < limit, "it did not come about in time"
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_run_that_is_killed_again_and_again_equals_a_local_one(
    object_store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    words = [*RUN, "--out", f"{bucket}/a/first", "--cache", f"{bucket}/generators"]

    def holds(part: str) -> Callable[[], bool]:
        return lambda: any(part in key for key in object_store.keys(bucket))

    killed(holds("network-001"), *words)
    killed(holds("network-002"), *words, "--resume")
    out = done(*words, "--resume")
    assert out.count("\nround") + out.startswith("round") < 3
    done(*RUN, "--out", tmp_path / "local")
    for kind in ("rounds", "curves"):
        assert lasting(kind, Place(f"{bucket}/a/first")).equals(lasting(kind, tmp_path / "local"))
    names = [key.rpartition("/")[2] for key in object_store.keys(bucket)]
    assert sum(name.startswith("network-") for name in names) == 1
    assert sum(name.endswith(".rounds.arrow") for name in names) == 3
    assert not any(name.endswith(".claim") for name in names)
    sql = "select count(*) as n, max(attempts) as goes from trials"
    asked = done("analysis/query.py", f"{bucket}/a/first", sql, "--format", "csv")
    assert asked.split() == ["n,goes", "1,3"]
    done("analysis/curves.py", f"{bucket}/a/first", "--out", tmp_path / "curves")
    assert list(tmp_path.glob("curves*"))


def at(experiment: Experiment, folder: Path | Place) -> Run:
    folder = Place(folder)
    return Run(experiment, materials(experiment.task).cached(), folder, GeneratorStore(folder / "generators"))


def bought(folder: Path, labels: str | None = None) -> Experiment:
    folder.mkdir(parents=True, exist_ok=True)
    return tiny(BoughtDigits(folder / "ledger", labels=Place(labels) if labels else None))


def test_a_store_that_is_away_in_mid_run_is_waited_for(
    object_store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    list(at(bought(tmp_path / "local"), tmp_path / "local").rounds())
    back = threading.Timer(2.0, object_store.start)
    for row in at(bought(tmp_path, f"{bucket}/labels"), Place(bucket) / "results").rounds():
        if row["t"] == 1:
            object_store.stop()
            back.start()
    back.join()
    for kind in ("rounds", "curves"):
        assert lasting(kind, Place(bucket) / "results").equals(lasting(kind, tmp_path / "local"))
    assert sorted(sold(tmp_path / "ledger")) == sorted(sold(tmp_path / "local" / "ledger"))


def test_a_store_that_stays_away_is_told_and_the_run_goes_on_once_it_is_back(
    object_store: ObjectStore, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(at(bought(tmp_path / "local"), tmp_path / "local").rounds())
    experiment, folder = bought(tmp_path, f"{bucket}/labels"), Place(bucket) / "results"
    monkeypatch.setattr(places, "PAUSES", ())
    rounds = at(experiment, folder).rounds()
    next(rounds)
    object_store.stop()
    try:
        with pytest.raises(
            StoreError, match=rf"The state cannot be kept: {bucket}/.*; go on with --resume\."
        ):
            next(rounds)
    finally:
        object_store.start()
    # Round 1 was recorded, but not yet saved as over: it is recorded again, by another attempt.
    assert [row["t"] for row in at(experiment, folder).rounds()] == [1, 2, 3]
    for kind in ("rounds", "curves"):
        assert lasting(kind, folder).equals(lasting(kind, tmp_path / "local"))
    assert sorted(sold(tmp_path / "ledger")) == sorted(sold(tmp_path / "local" / "ledger"))


@pytest.mark.parametrize("kind", ["here", "s3"])
def test_an_attempt_belongs_to_one_writer(kind: str, tmp_path: Path, bucket: str) -> None:
    folder, experiment = Place(tmp_path if kind == "here" else bucket) / "records", tiny()
    with ThreadPoolExecutor(6) as threads:
        writers = list(threads.map(lambda _: RecordWriter(folder, experiment), range(6)))
    assert len({writer.attempt for writer in writers}) == 6
    assert len(folder.list("*")) == 6
