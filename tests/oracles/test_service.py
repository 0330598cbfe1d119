"""The oracle service under real Ray, with processes that are really killed.

The ledger is a file to which every solve adds a line, so what was bought is counted outside of what is tested.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from alss_ray.config import UsageError
from alss_ray.files import StoreError
from alss_ray.oracles.base import ImageBatch, Labels
from alss_ray.oracles.cache import LabelStore, OracleError, image_key

ray = pytest.importorskip("ray")
service_module = pytest.importorskip("alss_ray.oracles.service")

LABEL, SLOW, KILL, KILL_ONCE, HANG, HANG_IN_C, RAISE, REFUSE = range(8)
TIMEOUT = 5.0
CPUS = 4


@dataclass(frozen=True)
class Ledgered:
    """Does to an image what its first pixel says, and writes down `number pid` before."""

    ledger: str
    ballast: str = ""

    def label(self, images: ImageBatch) -> Labels:
        assert len(images) == 1
        act, high, low = images.images[0, 0, 0, :3].tolist()
        number = 256 * high + low
        before = bought(self.ledger)[number]
        child = subprocess.Popen(["sleep", "1000"]) if act == HANG else None
        note(self.ledger, f"{number} {os.getpid()} {child.pid if child else 0}")
        time.sleep(3.0 if act == SLOW else 0.1)
        if act == KILL or (act == KILL_ONCE and not before):
            os.kill(os.getpid(), signal.SIGKILL)
        if child:
            child.wait()
        if act == HANG_IN_C:
            ctypes.PyDLL(None).sleep(1000)  # unlike CDLL, this keeps the interpreter's lock
        if act == RAISE:
            raise ValueError("no such valve")
        refusals = {0: "no lumen"} if act == REFUSE else {}
        return Labels(images.images.float().mean((1, 2, 3)), refusals)


def note(ledger: str, line: str) -> None:
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def lines(ledger: str) -> list[list[int]]:
    path = Path(ledger)
    return (
        [[int(part) for part in line.split()] for line in path.read_text().splitlines()]
        if path.exists()
        else []
    )


def bought(ledger: str) -> Counter[int]:
    return Counter(line[0] for line in lines(ledger))


counter = iter(range(1, 60_000))


def batch(*acts: int) -> ImageBatch:
    """One image an act, none of them like any other in this module."""
    images = torch.zeros(len(acts), 1, 8, 8, dtype=torch.uint8)
    for k, act in enumerate(acts):
        number = next(counter)
        images[k, 0, 0, :3] = torch.tensor([act, number // 256, number % 256])
    return ImageBatch(images, torch.full((len(acts),), -1))


def numbers(images: ImageBatch) -> list[int]:
    return [256 * int(image[0, 0, 1]) + int(image[0, 0, 2]) for image in images]


def times_bought(ledger: str, images: ImageBatch) -> list[int]:
    counts = bought(ledger)
    return [counts[number] for number in numbers(images)]


def right(labels: Labels, images: ImageBatch) -> bool:
    return torch.equal(labels.values, images.images.float().mean((1, 2, 3))) and not labels.refusals


def until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this has not come about"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


def pid_of(worker) -> int:
    return ray.get(worker.state.options(concurrency_group="talk").remote()).pid


@pytest.fixture(scope="module")
def cluster():
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers have no path to this file
    context = ray.init(
        address="local",
        num_cpus=CPUS,
        resources={"oracle": 1},
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
    )
    yield
    context.disconnect()
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("labels")


@pytest.fixture(scope="module")
def ledger(folder) -> str:
    return str(folder / "ledger")


@pytest.fixture(scope="module")
def service(cluster, folder, ledger):
    with service_module.open_service(Ledgered(ledger), 2, TIMEOUT, folder / "cache") as opened:
        yield opened


def test_labels_come_in_order_and_are_bought_once(service, ledger):
    images = batch(*[LABEL] * 6)
    twice = ImageBatch(torch.cat([images.images, images.images.flip(0)]), torch.full((12,), -1))
    before = service.oracle.tally.bought
    assert right(service.oracle.label(twice), twice)
    assert times_bought(ledger, images) == [1] * 6
    assert service.oracle.tally.bought == before + 6
    assert right(service.oracle.label(images), images)
    assert times_bought(ledger, images) == [1] * 6
    assert service.oracle.tally.bought == before + 6


def test_callers_that_hold_every_other_cpu_get_their_labels(service, ledger):
    class Trial:
        def label(self, images):
            return service_oracle.label(images), ray.get_runtime_context().get_assigned_resources()

    service_oracle = service.oracle
    kind = ray.remote(num_cpus=1)(Trial)
    trials = [kind.remote() for _ in range(CPUS - 2)]
    asked = [batch(LABEL, KILL_ONCE, LABEL) for _ in trials]
    answers = [trial.label.remote(images) for trial, images in zip(trials, asked, strict=True)]
    until(lambda: ray.available_resources().get("CPU", 0) == 0)
    one_more = kind.remote().label.remote(batch(LABEL))  # would take the CPU of a killed worker if it could
    for (labels, held), images in zip(ray.get(answers, timeout=40), asked, strict=True):
        assert right(labels, images)
        assert held["CPU"] == 1
    assert [times_bought(ledger, images) for images in asked] == [[1, 2, 1]] * len(asked)
    assert ray.wait([one_more], timeout=0.5) == ([], [one_more])  # the CPUs were all taken, indeed
    ray.cancel(one_more)
    for trial in trials:
        ray.kill(trial)


def test_two_callers_that_ask_at_once_share_one_solve(service, ledger):
    images = batch(*[LABEL] * 8)
    callers = [service_module.ServiceOracle(service.oracle.desk, service.oracle.identity) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda caller: caller.label(images), callers))
    assert all(right(labels, images) for labels in answers)
    assert times_bought(ledger, images) == [1] * 8
    assert sum(caller.tally.bought for caller in callers) == 8


def test_a_killed_worker_s_image_goes_back_to_the_queue(service, ledger):
    images = batch(SLOW, LABEL, LABEL)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(service.oracle.label, images)
        until(lambda: times_bought(ledger, images)[0] == 1)
        victim = next(line[1] for line in lines(ledger) if line[0] == numbers(images)[0])
        os.kill(victim, signal.SIGKILL)
        assert right(answer.result(30), images)
    assert times_bought(ledger, images) == [2, 1, 1]
    assert service.report()["workers_lost"] >= 1
    until(lambda: victim not in {pid_of(worker) for worker in service.workers})


def test_a_worker_killed_while_idle_costs_nothing(service, ledger):
    lost = service.report().get("workers_lost", 0)
    for worker in service.workers:
        os.kill(pid_of(worker), signal.SIGKILL)
    images = batch(LABEL, LABEL)
    assert right(service.oracle.label(images), images)
    assert times_bought(ledger, images) == [1, 1]
    assert service.report().get("workers_lost", 0) == lost


@pytest.mark.parametrize("act", [LABEL, SLOW])
def test_a_killed_desk_is_rebuilt_and_nothing_is_bought_again(service, ledger, act):
    images = batch(*[LABEL] * 4, *[act] * 2, *[LABEL] * 14)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(service.oracle.label, images)
        until(lambda: sum(times_bought(ledger, images)) == 6)
        desk = service.report()["pid"]
        os.kill(desk, signal.SIGKILL)
        assert right(answer.result(40), images)
    assert times_bought(ledger, images) == [1] * 20
    assert service.report()["pid"] != desk


def test_desk_and_worker_killed_together(service, ledger):
    images = batch(*[SLOW] * 2, *[LABEL] * 6)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(service.oracle.label, images)
        until(lambda: sum(times_bought(ledger, images)) == 2)
        os.kill(service.report()["pid"], signal.SIGKILL)
        os.kill(lines(ledger)[-1][1], signal.SIGKILL)
        assert right(answer.result(40), images)
    assert sorted(times_bought(ledger, images)) == [1] * 7 + [2]


def test_a_solve_that_hangs_is_killed_and_refused(service, ledger, folder):
    images = batch(HANG, HANG_IN_C, LABEL)
    started = time.monotonic()
    labels = service.oracle.label(images)
    assert time.monotonic() - started > TIMEOUT
    assert labels.refusals == {0: "time-out", 1: "time-out"}
    assert labels.values[2] == images.images[2].float().mean()
    for number, worker, child in lines(ledger):
        if number in numbers(images)[:2]:
            until(lambda worker=worker, child=child: not alive(worker) and not (child and alive(child)))
    store = LabelStore(folder / "cache")
    stored = [store.read(image_key(service.oracle.identity, image)) is not None for image in images]
    assert stored == [False, False, True]
    started = time.monotonic()
    assert service.oracle.label(images).refusals == labels.refusals  # not tried again in this sweep
    assert time.monotonic() - started < TIMEOUT / 2
    assert times_bought(ledger, images) == [1, 1, 1]


def test_an_image_that_kills_two_workers_is_poison(service, ledger, folder):
    images = batch(LABEL, KILL, LABEL, LABEL)
    labels = service.oracle.label(images)
    assert labels.refusals == {1: "poison"}
    assert times_bought(ledger, images) == [1, 2, 1, 1]
    key = image_key(service.oracle.identity, images.images[1].numpy())
    assert LabelStore(folder / "cache").read(key) is None


def test_a_broken_oracle_is_one_clear_error_and_no_hang(service, ledger):
    images = batch(LABEL, RAISE)
    with pytest.raises(
        OracleError, match=r"Ledgered failed on a synthesised image .*ValueError: no such valve"
    ):
        service.oracle.label(images)
    images = batch(LABEL)
    assert right(service.oracle.label(images), images)


def test_the_oracle_s_own_refusals_are_kept(service, ledger):
    images = batch(REFUSE, LABEL)
    for _ in range(2):
        assert service.oracle.label(images).refusals == {0: "no lumen"}
    assert times_bought(ledger, images) == [1, 1]


def test_queued_work_is_bounded_on_the_oracle_s_own_machines_and_a_large_oracle_is_made_anew(
    cluster, tmp_path
):
    oracle = Ledgered(str(tmp_path / "ledger"), ballast="x" * 3 * service_module.INLINE)
    with service_module.open_service(oracle, 1, math.inf, tmp_path, "oracle", queue_limit=3) as service:
        assert ray.available_resources().get("oracle", 0) == 0
        asked = [batch(*[LABEL] * 5), batch(KILL_ONCE, *[LABEL] * 5)]
        with ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(service.oracle.label, asked))
        assert all(map(right, answers, asked))
        assert service.report()["queued_at_most"] == 3
    until(lambda: ray.available_resources().get("oracle", 0) == 1)


def test_what_cannot_be_opened_is_refused_and_leaves_nothing_behind(cluster, tmp_path):
    free = ray.available_resources()["CPU"]
    with pytest.raises(UsageError, match=r"99 oracle workers ask for 1 CPU each.*lower --oracle-workers"):
        service_module.open_service(Ledgered("x"), 99, 1.0, tmp_path, patience=0.5)
    with pytest.raises(
        UsageError, match=r"1 CPU each and 1 slide, but the cluster, which has 4 CPU, 0 slide in all"
    ):
        service_module.open_service(Ledgered("x"), 1, 1.0, tmp_path, "slide", patience=0.5)
    with pytest.raises(UsageError, match="timeout is 0"):
        service_module.open_service(Ledgered("x"), 1, 0, tmp_path)
    with pytest.raises(UsageError, match=r"Broken does not start on a Ray worker.*no licence"):
        service_module.open_service(Broken(), 1, 1.0, tmp_path)
    until(lambda: ray.available_resources()["CPU"] == free)


class Broken(Ledgered):
    """Cannot be made on another machine."""

    def __init__(self) -> None:
        super().__init__("x")

    def __reduce__(self):
        return _refuse_to_load, ()


def _refuse_to_load():
    raise RuntimeError("no licence")


def test_workers_that_cannot_be_made_anew_are_an_error(cluster, tmp_path):
    with service_module.open_service(Fragile(str(tmp_path / "ledger")), 1, TIMEOUT, tmp_path) as service:
        with pytest.raises(OracleError, match="No oracle worker can be started again"):
            service.oracle.label(batch(KILL))
        with pytest.raises(OracleError, match="No oracle worker can be started again"):
            service.oracle.label(batch(LABEL))


class Fragile(Ledgered):
    """Cannot be made any more once it has solved."""

    def __reduce__(self):
        return _load_unless_used, (self.ledger,)


def _load_unless_used(ledger: str) -> Fragile:
    if Path(ledger).exists():
        raise RuntimeError("no licence")
    return Fragile(ledger)


def test_a_cache_that_is_away_is_an_error_and_what_was_bought_is_written_later(
    cluster, tmp_path, monkeypatch
):
    ledger, images = str(tmp_path / "ledger"), batch(LABEL)
    with service_module.open_service(Ledgered(ledger), 1, TIMEOUT, tmp_path / "cache") as service:
        (tmp_path / "cache").mkdir()
        for image in images:  # where its label goes there is nothing to be read, and nothing can be written
            shelf = tmp_path / "cache" / image_key(service.oracle.identity, image)[:2]
            shelf.symlink_to(tmp_path / "away")
        with pytest.raises(StoreError, match=r"A label cannot be written in .*go on with --resume\.$"):
            service.oracle.label(images)
        (tmp_path / "away").mkdir()
        assert right(service.oracle.label(images), images)
        assert times_bought(ledger, images) == [1]
        assert list((tmp_path / "away").rglob("*.label"))
    monkeypatch.setattr(service_module, "RETRIES", 3)
    with pytest.raises(OracleError, match="front desk has not come back"):
        service.oracle.label(images)


def test_default_workers_leave_room_for_trials():
    assert [service_module.default_workers(cpus) for cpus in (1, 2, 3, 4, 8, 16)] == [0, 0, 0, 1, 3, 5]
    assert all(0 < service_module.default_workers(cpus) <= cpus / 2 for cpus in range(4, 200))
