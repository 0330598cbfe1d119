"""What all tests rely on: one thread, a cache of their own, and MNIST where it is at hand."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from object_store import CREDENTIALS, ObjectStore

from alss_ray.tasks import cifar10, mnist

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trained generators go to a temporary folder, in this process and in those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """An S3 server on loopback, which this process and those it starts reach by s3:// alone."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        store = ObjectStore()
        for name, value in store.environment.items():
            patch.setenv(name, value)
        yield store
        store.stop()


@pytest.fixture
def bucket(object_store: ObjectStore) -> str:
    """The URI of a bucket that is empty."""
    return object_store.bucket()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of faults, as far as test_faults.py ran."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    faults = [row for report in reports for name, row in report.user_properties if name == "fault"]
    if faults:
        terminalreporter.section("faults")
        head = ("rounds recorded twice", "labels bought twice", "trials re-run", "seconds to recover")
        terminalreporter.write_line(f"{'':45}{'  '.join(head)}")
        for name, *lost, seconds in faults:
            cells = [*map(str, lost), f"{seconds:.1f}"]
            columns = "  ".join(cell.rjust(len(title)) for cell, title in zip(cells, head, strict=True))
            terminalreporter.write_line(f"{name:45}{columns}")


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder that holds MNIST/raw; tests that need it are skipped without it."""
    return _data(mnist.FOLDER, mnist.FILES)


@pytest.fixture(scope="session")
def cifar10_dir() -> Path:
    """The folder that holds cifar-10-batches-py; tests that need it are skipped without it."""
    return _data(cifar10.FOLDER, ["data_batch_1", "test_batch"])


def _data(inside: str, wanted: Sequence[str]) -> Path:
    """The folder of real data that is given to the tests."""
    named = os.environ.get("ALSS_RAY_DATA")
    if named is None:
        pytest.skip(f"ALSS_RAY_DATA is not set: give the folder that holds {inside}")
    if missing := [name for name in wanted if not (Path(named) / inside / name).exists()]:
        pytest.skip(f"ALSS_RAY_DATA={named} lacks {', '.join(missing)} in {inside}")
    return Path(named)
