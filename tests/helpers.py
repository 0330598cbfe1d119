"""What several tests share: a task whose oracle keeps a ledger, and the comparison of records."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from alss_ray import reading
from alss_ray.config import Experiment, local
from alss_ray.generators import Vae
from alss_ray.oracles import DatasetOracle, ImageBatch, Labels
from alss_ray.places import Place
from alss_ray.strategies import Snn
from alss_ray.tasks import Digits, TaskData

VOLATILE = {"attempt", "recorded_at", "generator_trained", "git_commit", "host", "sweep"}
"""Columns that may differ between two runs of one experiment, beside the seconds."""


@dataclass(frozen=True)
class Ledger(DatasetOracle):
    """Stored labels with a book: every label that is sold, and the process that bought it."""

    path: Path

    def label(self, images: ImageBatch) -> Labels:
        with open(self.path, "a") as file:
            file.writelines(f"{os.getpid()} {index}\n" for index in images.indices.tolist())
        return super().label(images)


@dataclass(frozen=True)
class LedgerDigits(Digits):
    """The digits task with a ledger."""

    ledger: Path = local(default=Path("ledger"))
    name: ClassVar[str] = "helpers:LedgerDigits"

    def load(self) -> TaskData:
        data = super().load()
        return TaskData(
            data.images, data.test_images, data.test_targets, Ledger(data.oracle.targets, self.ledger)
        )


@dataclass(frozen=True)
class BoughtDigits(LedgerDigits):
    """The digits as if their labels were made on demand: bought through the label cache."""

    def load(self) -> TaskData:
        return dataclasses.replace(super().load(), label_folder=self.labels or self.ledger.parent / "labels")


def sold(ledger: Path) -> list[int]:
    """Every index that was bought, in order."""
    return [int(line.split()[1]) for line in ledger.read_text().splitlines()]


def buyers(ledger: Path) -> Counter[int]:
    """The processes that bought, with the number of labels of each."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return Counter(int(line.split()[0]) for line in lines)


def tiny(task: Any = Digits(), strategy: Any = Snn(), **settings: Any) -> Experiment:  # noqa: B008
    """An experiment of three rounds that takes a fraction of a second."""
    plain = {
        "round_size": 10,
        "label_budget": 30,
        "iterations": 12,
        "evaluate_every": 5,
        "validation_share": 1.0,
    }
    generator = Vae(generator_iterations=30) if strategy.needs_embedding else None
    return Experiment(task=task, strategy=strategy, generator=generator, **{**plain, **settings})


def lasting(kind: str, folder: Path | Place) -> pa.Table:
    """The records of a folder without what may differ between two runs."""
    table = reading.read(kind, [folder]).table
    return table.drop([name for name in table.column_names if name in VOLATILE or name.endswith("_seconds")])
