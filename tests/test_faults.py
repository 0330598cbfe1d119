"""Sweeps that something happens to: each ends with the records of one that nothing happened to, and buys no more.

Processes stop where a test says (stopping.py) and are killed there, each by its process id. What was lost and how
long it took to go on is printed as a table at the end (conftest.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers import lasting, sold
from object_store import ObjectStore
from sweeping import ROOT, started, sweep, until

from alss_ray import reading
from alss_ray.places import Place

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

ALPHAS = (1.0, 0.5, 2.0)
ROUNDS = 3
Told = Callable[[str, Any], None]


@dataclass
class Trouble:
    """A fault, and how things stood when it happened."""

    name: str
    alpha: float | None
    """Of the trial that it disturbed; None for all of them."""
    at: float
    finished: set[str]
    goes: Counter[str]


@dataclass
class Job:
    """A search over three step sizes with one generator, in a folder of its own."""

    home: Path
    address: str
    results: Place | None = None
    words: tuple[str, ...] = ()
    troubles: list[Trouble] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.results = self.results or Place(self.home / "results")
        self.ledger = self.home / "ledger"
        (self.home / "stops").mkdir(parents=True)

    def command(self, *more: str) -> list[Any]:
        tried = [word for alpha in ALPHAS[1:] for word in ("--try-first", f"alpha={alpha:g}")]
        return ["latent_dim.py", self.results, "--task", "stopping:StoppingDigits", "--ledger", str(self.ledger),
                "--latent-dim", "3", *tried, "--trials", str(len(ALPHAS)), "--address", self.address,
                *self.words, *more]  # fmt: skip

    def ends_well(self, *more: str) -> None:
        done = sweep(*self.command(*more))
        assert done.returncode == 0, done.stderr

    def stop_at(self, *places: str) -> None:
        for place in places:
            (self.home / "stops" / place).touch()

    def stopped(self, place: str) -> int:
        """The process that has come to a place, once one has."""
        until(lambda: list((self.home / "stops").glob(f"{place}@*")), 240)
        (found,) = (self.home / "stops").glob(f"{place}@*")
        return int(found.name.partition("@")[2])

    def go_on(self, place: str) -> None:
        for found in (self.home / "stops").glob(f"{place}@*"):
            found.unlink()

    def rows(self) -> list[dict[str, Any]]:
        if not (self.results / "records").list("*.rounds.arrow"):
            return []
        return reading.read("rounds", [self.results]).table.to_pylist()

    def goes(self) -> Counter[str]:
        """How often each experiment was gone at, as far as a round came of it."""
        files = (self.results / "records").list("*.rounds.arrow")
        return Counter(file.name.rpartition("-")[0] for file in files if file.read())

    def happens(self, name: str, alpha: float | None = None) -> None:
        """A fault comes now."""
        finished = {row["experiment"] for row in self.rows() if row["t"] == ROUNDS}
        self.troubles.append(Trouble(name, alpha, time.time(), finished, self.goes()))

    def kill(self, process: int, name: str, place: str) -> None:
        """Kill a process while the one that has come to a place stays there."""
        alpha, _, _ = place.partition("-")
        self.happens(name, float(alpha) if alpha.replace(".", "").isdigit() else None)
        os.kill(process, signal.SIGKILL)
        self.go_on(place)

    def driver_killed_at(self, place: str, name: str, *words: str) -> None:
        """Run the sweep and kill its driver while a process has come to a place."""
        self.stop_at(place)
        with started(*self.command(*words)) as process:
            self.stopped(place)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(30)
        self.go_on(place)
        self.happens(name)

    def check(self, undisturbed: Job, tell: Told) -> None:
        """Nothing is lost, nothing done twice."""
        for kind in ("rounds", "curves"):
            assert records(kind, self).equals(records(kind, undisturbed)), f"{kind} differ"
        rows, labels, goes = self.rows(), sold(self.ledger), self.goes()
        twice = len(rows) - len({(row["experiment"], row["t"]) for row in rows})
        bought = len(labels) - len(set(labels))
        assert set(labels) == set(sold(undisturbed.ledger))
        for trouble in self.troubles:
            again = sum(goes[each] > trouble.goes[each] for each in trouble.finished)
            later = [
                row["recorded_at"].timestamp() - trouble.at
                for row in rows
                if row["recorded_at"].timestamp() > trouble.at and trouble.alpha in (None, row["alpha"])
            ]
            tell("fault", (trouble.name, twice, bought, again, min(later)))
            assert (twice, bought, again) == (0, 0, 0), trouble.name


def records(kind: str, job: Job) -> pa.Table:
    """What a job recorded, without which of its trials was the first to buy a label of all."""
    table = lasting(kind, job.results)
    return table.drop([name for name in ("oracle_bought",) if name in table.column_names])


@pytest.fixture(scope="module")
def cluster(object_store: ObjectStore) -> Iterator[Any]:
    """A cluster of two machines with a CPU each, on this one; trials run on both."""
    # Ray leaves a note in its folder that sends later programs to this cluster; the path must be short.
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", scratch)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT / "tests"))
        patch.setenv("OMP_NUM_THREADS", "1")
        made = cluster_utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        try:
            made.add_node(num_cpus=1)
            yield made
        finally:
            made.shutdown()
            shutil.rmtree(scratch, ignore_errors=True)


def actors(cluster: Any, kind: str) -> list[tuple[int, str]]:
    """Process id and machine of the living actors of a kind."""
    found = cluster.global_state.actor_table(None).values()
    return [
        (actor["Pid"], actor["Address"]["NodeID"])
        for actor in found
        if actor["ActorClassName"].rpartition(".")[2] == kind and actor["State"] == "ALIVE"
    ]


def only(found: list[tuple[int, str]]) -> int:
    """The process of the one actor that is found."""
    ((process, _),) = found
    return process


@pytest.fixture(scope="module")
def undisturbed(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The sweep with nothing going wrong."""
    job = Job(tmp_path_factory.mktemp("undisturbed"), cluster.address)
    job.ends_well()
    rows = job.rows()
    assert sorted((row["alpha"], row["t"]) for row in rows) == sorted(
        (alpha, t) for alpha in ALPHAS for t in range(1, ROUNDS + 1)
    )
    return job


def test_processes_of_every_kind_are_killed(
    cluster: Any, undisturbed: Job, tmp_path: Path, record_property: Told
) -> None:
    words = ("--concurrency", "1", "--oracle-workers", "1", "--oracle-resource", "oracle")
    job = Job(tmp_path, cluster.address, words=words)
    phases = ["1-1-propose", "1-2-label", "0.5-1-append", "0.5-2-fit", "0.5-3-evaluate", "2-1-record"]
    job.stop_at("train", *phases)
    with started(*job.command()) as process, contextlib.ExitStack() as machines:
        assert process.stderr is not None
        told = next(line for line in process.stderr if "oracle" in line)
        assert "wait for 1 oracle, where the cluster has 0" in told
        assert not actors(cluster, "ImplicitFunc"), "no trial starts before the oracle's workers"
        machine = cluster.add_node(num_cpus=1, resources={"oracle": 1})
        machines.callback(cluster.remove_node, machine)

        job.kill(job.stopped("train"), "generator trainer killed", "train")
        assert [node for _, node in actors(cluster, "OracleWorker")] == [machine.node_id]
        job.stop_at("train")
        job.stopped("train")
        job.kill(only(actors(cluster, "GeneratorDesk")), "generator desk killed", "train")
        for phase in phases:
            job.kill(job.stopped(phase), f"trial's worker killed in {phase.rpartition('-')[2]}", phase)
        job.stop_at("solve")
        worker = job.stopped("solve")
        assert worker == only(actors(cluster, "OracleWorker"))
        job.kill(worker, "oracle worker killed", "solve")
        job.stop_at("solve")
        job.stopped("solve")
        job.kill(only(actors(cluster, "OracleDesk")), "oracle desk killed", "solve")
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert sum(job.goes().values()) > len(ALPHAS)
    job.check(undisturbed, record_property)


def test_a_machine_is_removed_and_added_back(
    cluster: Any, undisturbed: Job, tmp_path: Path, record_property: Told
) -> None:
    job = Job(tmp_path, cluster.address)
    phases = [f"{alpha:g}-2-fit" for alpha in ALPHAS[:2]]
    job.stop_at(*phases)
    (machine,) = cluster.worker_nodes
    with started(*job.command()) as process:
        at = {job.stopped(phase): phase for phase in phases}
        places = dict(actors(cluster, "ImplicitFunc"))
        (victim,) = (process for process in at if places[process] == machine.node_id)
        lost = at.pop(victim)
        (other,) = at.values()
        job.happens("machine removed, added back", float(lost.partition("-")[0]))
        cluster.remove_node(machine, allow_graceful=False)
        until(lambda: not Path(f"/proc/{victim}").exists())
        job.go_on(lost)
        job.stop_at(lost)
        machine = cluster.add_node(num_cpus=1)
        again = job.stopped(lost)  # the other trial still holds the head's only CPU
        assert dict(actors(cluster, "ImplicitFunc"))[again] == machine.node_id
        job.go_on(lost)
        job.go_on(other)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    job.check(undisturbed, record_property)


def test_the_driver_is_interrupted_then_killed(
    cluster: Any, undisturbed: Job, tmp_path: Path, record_property: Told
) -> None:
    job = Job(tmp_path, cluster.address)
    job.stop_at("1-2-label")
    with started(*job.command()) as process:
        job.stopped("1-2-label")
        os.kill(process.pid, signal.SIGINT)
        job.go_on("1-2-label")
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Interrupted; nothing is lost." in err
    assert "Traceback" not in err
    job.happens("Ctrl-C, then --resume")
    job.driver_killed_at("2-2-fit", "driver killed, then --resume", "--resume")
    job.ends_well("--resume")
    job.check(undisturbed, record_property)


def test_the_driver_is_killed_with_results_on_an_object_store(
    cluster: Any,
    object_store: ObjectStore,
    bucket: str,
    undisturbed: Job,
    tmp_path: Path,
    record_property: Told,
) -> None:
    job = Job(tmp_path, cluster.address, results=Place(bucket) / "results")
    job.driver_killed_at("2-2-fit", "driver killed, results on S3, then --resume")
    job.ends_well("--resume")
    job.check(undisturbed, record_property)
    keys = object_store.keys(bucket)
    assert sum(key.startswith("generators/") for key in keys) == 1
    assert not any(key.startswith("results/tune") for key in keys)


def test_the_store_of_labels_goes_away(
    cluster: Any,
    object_store: ObjectStore,
    bucket: str,
    undisturbed: Job,
    tmp_path: Path,
    record_property: Told,
) -> None:
    words = ("--labels", f"{bucket}/labels", "--oracle-workers", "1")
    job = Job(tmp_path, cluster.address, words=words)
    job.stop_at("0.5-1-record")
    with started(*job.command()) as process:
        job.stopped("0.5-1-record")
        job.stop_at("solve")
        job.go_on("0.5-1-record")
        job.stopped("solve")
        object_store.stop()  # while a label is under way that is paid for
        try:
            job.go_on("solve")
            _, err = process.communicate(timeout=300)
        finally:
            object_store.start()
    assert process.returncode == 1, err
    sentences = [line for line in err.splitlines() if line.strip()]
    assert sentences[-1].endswith("go on with --resume."), err
    assert f"{bucket}/labels/" in sentences[-1]
    assert "Traceback" not in err
    assert "failed" not in err
    job.happens("store of labels away, then --resume")
    job.ends_well("--resume")
    job.check(undisturbed, record_property)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that holds a trial of the sweep, but not two."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # Ray may still be ending


def test_the_disk_of_the_results_is_full(
    cluster: Any, undisturbed: Job, small: Path, tmp_path: Path, record_property: Told
) -> None:
    cache = ("--cache", str(tmp_path / "generators"), "--concurrency", "1")
    job = Job(tmp_path / "job", cluster.address, results=Place(small / "results"), words=cache)
    full = sweep(*job.command())
    assert full.returncode == 1, full.stderr
    assert "make room there and go on with --resume" in full.stderr
    assert "Traceback" not in full.stderr
    assert subprocess.run(["mount", "-o", "remount,size=64m", str(small)]).returncode == 0
    job.happens("disk full, then --resume")
    assert len(job.troubles[0].finished) == 1
    job.ends_well("--resume")
    job.check(undisturbed, record_property)
