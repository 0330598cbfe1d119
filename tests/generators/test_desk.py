"""One generator for a whole Ray cluster: one trainer, handed over when it dies, delivered to every folder."""

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from alss_ray.generators import Embedding, Vae
from alss_ray.generators.store import GeneratorStore, Request
from alss_ray.tasks import Digits

ray = pytest.importorskip("ray")

from alss_ray.generators.desk import DeskSource, open_desk  # noqa: E402

CPU = torch.device("cpu")
LEASE = 1.5
WAIT = 60.0  # seconds, far more than anything here takes


@pytest.fixture(scope="module", autouse=True)
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One desk for all tests, each of which asks for a generator of its own seed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # workers import this module
        patch.setenv("OMP_NUM_THREADS", "1")
        ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
        yield open_desk(tmp_path_factory.mktemp("desk"), LEASE)
        ray.shutdown()


def silent(done: int, total: int) -> None:
    pass


def request(seed: int, progress: Callable[[int, int], None] = silent) -> Request:
    vae = Vae(generator_hidden=16, generator_iterations=200, generator_batch_size=16, generator_seed=seed)
    data = Digits().load()
    return Request(vae, data, data.fingerprint(), CPU, progress)


def content(embedding: Embedding) -> str:
    modules = [*embedding.encoder.state_dict().values(), *embedding.decoder.state_dict().values()]
    return hashlib.sha256(
        b"".join(part.numpy().tobytes() for part in [*modules, embedding.codes])
    ).hexdigest()


def reference(seed: int) -> str:
    """What training without a desk gives."""
    wanted = request(seed)
    pair = wanted.generator.train(wanted.data.images, CPU, silent)
    return content(Embedding.of(*pair, wanted.data.images, CPU))


def ask(desk: Any, seed: int, local: Path, pace: float = 0.0) -> tuple[bool, str]:
    """A trial that wants the generator; each half of its training takes `pace` seconds more."""

    def progress(done: int, total: int) -> None:
        (local / "training").parent.mkdir(parents=True, exist_ok=True)
        (local / "training").write_text(str(os.getpid()))
        with open(local / "steps", "a") as steps:
            steps.write(f"{done} ")
        time.sleep(pace)

    got = DeskSource(desk, GeneratorStore(local, snapshot_every=0.0), LEASE).obtain(request(seed, progress))
    return got.trained, content(got.embedding)


def trial(desk: Any, seed: int, local: Path, pace: float = 0.0) -> Any:
    """The same in a worker of its own."""
    return ray.remote(ask).options(num_cpus=1, max_retries=0).remote(desk, seed, local, pace)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def pid_of(local: Path) -> int:
    """The process that trains for a folder, once it does."""
    marker = local / "training"
    until(lambda: marker.exists() and marker.read_text() != "")
    return int(marker.read_text())


def test_of_many_trials_with_folders_of_their_own_one_trains(desk: Any, tmp_path: Path) -> None:
    folders = [tmp_path / f"machine-{k}" for k in range(3)]
    told = ray.get([trial(desk, 1, folder) for folder in folders], timeout=WAIT)
    assert sorted(trained for trained, _ in told) == [False, False, True]
    assert {got for _, got in told} == {reference(1)}
    assert all(GeneratorStore(folder).content(request(1).key) for folder in folders)
    assert sum((folder / "training").exists() for folder in folders) == 1
    assert ray.get(trial(desk, 1, tmp_path / "later"), timeout=WAIT) == (False, reference(1))


def test_trials_that_share_a_machine_train_once(desk: Any, tmp_path: Path) -> None:
    told = ray.get([trial(desk, 2, tmp_path, 0.2) for _ in range(3)], timeout=WAIT)
    assert sorted(trained for trained, _ in told) == [False, False, True]
    assert {got for _, got in told} == {reference(2)}


def test_a_killed_trainers_lease_goes_to_the_next_in_line(desk: Any, tmp_path: Path) -> None:
    doomed = trial(desk, 3, tmp_path / "doomed", 600)
    pid = pid_of(tmp_path / "doomed")
    heirs = [tmp_path / f"heir-{k}" for k in range(2)]
    asked = [trial(desk, 3, heir) for heir in heirs]
    time.sleep(2 * LEASE)  # the lease is renewed while its holder lives
    assert not any((heir / "training").exists() for heir in heirs)
    until(lambda: ray.get(desk.unfinished.remote(request(3).key)) is not None)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(doomed, timeout=WAIT)
    told = ray.get(asked, timeout=WAIT)
    assert sorted(trained for trained, _ in told) == [False, True]
    assert {got for _, got in told} == {reference(3)}
    # The heir, a machine of its own, went on from the snapshot that the dead one had sent.
    (steps,) = [(heir / "steps").read_text() for heir in heirs if (heir / "steps").exists()]
    assert steps.split() == ["200"]
    assert ray.get(desk.unfinished.remote(request(3).key)) is None


def test_a_trial_beside_a_stored_generator_needs_no_desk(tmp_path: Path) -> None:
    GeneratorStore(tmp_path).obtain(request(4))
    assert ask(None, 4, tmp_path) == (False, reference(4))


def test_a_damaged_file_at_the_desk_is_trained_anew(tmp_path: Path) -> None:
    GeneratorStore(tmp_path / "desk").path(request(5).key).write(b"half a file")
    other_desk = open_desk(tmp_path / "desk", LEASE)
    assert ray.get(trial(other_desk, 5, tmp_path / "one"), timeout=WAIT) == (True, reference(5))
    assert ray.get(trial(other_desk, 5, tmp_path / "two"), timeout=WAIT) == (False, reference(5))


def test_a_desk_that_restarts_still_serves_everyone(desk: Any, tmp_path: Path) -> None:
    """Its leases are gone then, so a second trainer may start; all get the same generator."""
    trainer = trial(desk, 6, tmp_path / "trainer", 0.5)
    pid_of(tmp_path / "trainer")
    waiter = trial(desk, 6, tmp_path / "waiter")
    time.sleep(0.3)
    ray.kill(desk, no_restart=False)
    told = ray.get([trainer, waiter], timeout=WAIT)
    assert told[0] == (True, reference(6))
    assert told[1][1] == reference(6)
    assert ray.get(trial(desk, 6, tmp_path / "later"), timeout=WAIT) == (False, reference(6))
