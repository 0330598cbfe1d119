"""Digits whose sweeps stop where a test says, to be killed just there; imported by the sweep's own processes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from helpers import BoughtDigits, Ledger

from alss_ray.experiment import PHASES, Run
from alss_ray.generators.store import GeneratorStore
from alss_ray.oracles import ImageBatch, Labels
from alss_ray.tasks import TaskData


def stop(home: Path, where: str) -> None:
    """Stay here, if a test has left a file of this name, until it takes away the one that says who stays."""
    here = home / "stops" / f"{where}@{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(home / "stops" / where, here)  # of all who come by, one
        while here.exists():
            time.sleep(0.02)


@dataclass(frozen=True)
class StoppingLedger(Ledger):
    """Stops before it answers."""

    def label(self, images: ImageBatch) -> Labels:
        stop(self.path.parent, "solve")
        return super().label(images)


@dataclass(frozen=True)
class StoppingDigits(BoughtDigits):
    """Stops at the end of phases, before what they did is saved."""

    name: ClassVar[str] = "stopping:StoppingDigits"

    def load(self) -> TaskData:
        data = super().load()
        return dataclasses.replace(data, oracle=StoppingLedger(data.oracle.targets, self.ledger))


def _stopping(phase: str) -> Callable[[Run], None]:
    plain: Callable[[Run], None] = getattr(Run, f"_{phase}")

    def work(run: Run) -> None:
        plain(run)
        stop(run.task.ledger.parent, f"{run.experiment.strategy.alpha:g}-{run.state.t}-{phase}")

    return work


def _train(self: GeneratorStore, request: Any, share: Any, plain: Any = GeneratorStore.train) -> Any:
    stop(self.folder.local.parent, "train")
    return plain(self, request, share)


for _phase in PHASES:
    setattr(Run, f"_{_phase}", _stopping(_phase))
GeneratorStore.train = _train  # type: ignore[method-assign]
