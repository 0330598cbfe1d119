"""The process that runs the oracle for a sweep: a Ray actor on a CPU of its own, one image at a time.

It keeps every outcome until the front desk says that it is stored. So a desk that is killed finds, once it is
rebuilt, what was solved in the meantime and what is being solved still, and nothing is bought again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass

import numpy as np
import torch

from alss_ray.config import UsageError
from alss_ray.files import StoreError
from alss_ray.oracles.base import ImageBatch, Oracle
from alss_ray.oracles.cache import OracleError, ask, encode


@dataclass(frozen=True)
class Task:
    """One image to be labelled."""

    key: str
    """Its name in the cache."""
    image: np.ndarray
    """uint8 `C x H x W`."""
    index: int
    """Its position in D, -1 for a synthesised one."""


@dataclass(frozen=True)
class Outcome:
    """What came of a task."""

    entry: bytes = b""
    """The verdict, as the cache keeps it."""
    failure: OracleError | UsageError | StoreError | None = None
    """Why there is none: the oracle is broken, or its answer cannot be kept."""


@dataclass(frozen=True)
class WorkerState:
    """What a worker is doing."""

    pid: int
    task: Task | None
    """In work now."""
    seconds: float
    """Spent on it so far."""
    kept: dict[str, Outcome]
    """Key -> outcome that is not known to be stored."""


class OracleWorker:
    """The actor. `solve` runs in a thread of its own, so that the desk can look in on it."""

    def __init__(self, oracle: Oracle) -> None:
        # A group of its own, so that `end` also ends a command-line solver; older versions of Ray leave it running.
        with contextlib.suppress(PermissionError):  # a session's leader leads its group already
            os.setpgid(0, 0)
        self.oracle = oracle
        self.task: Task | None = None
        self.since = 0.0
        self.kept: dict[str, Outcome] = {}

    def solve(self, task: Task, stored: list[str]) -> Outcome:
        """Label one image; outcomes named in `stored` need not be kept any longer."""
        for key in stored:
            self.kept.pop(key, None)
        self.since, self.task = time.monotonic(), task
        batch = ImageBatch(torch.tensor(task.image)[None], torch.tensor([task.index]))
        try:
            [verdict] = ask(self.oracle, batch)
            outcome = Outcome(entry=encode(task.key, verdict))
        except OracleError as error:
            outcome = Outcome(failure=error)
        except UsageError as error:  # without what a class of the user's may carry, for it travels
            outcome = Outcome(failure=UsageError(str(error)))
        except Exception as error:  # such as a label of a type that cannot be stored
            outcome = Outcome(failure=OracleError(f"{type(error).__name__}: {error}"))
        self.kept[task.key] = outcome  # before the task is put down: a look in between must find one of them
        self.task = None
        return outcome

    def state(self) -> WorkerState:
        """What is in work, and what is not known to be stored."""
        task = self.task
        return WorkerState(os.getpid(), task, time.monotonic() - self.since, dict(self.kept))

    def end(self) -> None:
        """Die at once, with every program that the oracle has started."""
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
