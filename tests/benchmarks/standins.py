"""What the benchmarks of sweeps have in common: parts that stand for expensive ones, and the memory of processes."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from alss_ray.config import local
from alss_ray.generators import Vae
from alss_ray.oracles import DatasetOracle, ImageBatch, Labels
from alss_ray.oracles.stress import StressOracle
from alss_ray.tasks import Digits, Ivus, TaskData

KINDS = {
    "ray::ImplicitFunc": "trial workers",
    "ray::IDLE": "idle workers",
    "ray::GeneratorDesk": "generator desk",
    "ray::Oracle": "oracle service",
}
"""Start of a process's title -> what it is of a sweep; what begins otherwise is Ray's own."""


@dataclass(frozen=True)
class Sleeper(DatasetOracle):
    """Stored labels; every order of them takes a while."""

    seconds: float

    def label(self, images: ImageBatch) -> Labels:
        time.sleep(self.seconds)
        return super().label(images)


@dataclass(frozen=True)
class StandIn(Digits):
    """A few digits and a linear network. An experiment of one round takes so many `seconds` and hardly any work:
    half of them pass with the order of its validation labels, half with that of the round's."""

    seconds: float = 0.0
    size: int = 100
    """Images in the pool."""
    name: ClassVar[str] = "stand-in"

    def load(self) -> TaskData:
        data = super().load()
        oracle = Sleeper(data.oracle.targets[: self.size], self.seconds / 2)
        return TaskData(data.images[: self.size], data.test_images[:20], data.test_targets[:20], oracle)

    def network(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


@dataclass(frozen=True)
class CountedStress(StressOracle):
    """The solver with a book of how many masks it was given."""

    book: Path | None = local(default=None)

    def label(self, images: ImageBatch) -> Labels:
        if self.book is not None:
            with open(self.book, "a") as file:
                file.write(f"{len(images)}\n")
        return super().label(images)


@dataclass(frozen=True)
class CountedIvus(Ivus):
    """The IVUS phantoms; where labels are not `kept`, every trial has its own labelled by the solver."""

    kept: bool = True
    book: Path | None = local(default=None)

    def load(self) -> TaskData:
        data = super().load()
        oracle = CountedStress(data.oracle.spacing, data.oracle.pressure, self.book)
        folder = data.label_folder if self.kept else None
        return dataclasses.replace(data, oracle=oracle, label_folder=folder, whole_pool=False)


@dataclass(frozen=True)
class OwnVae(Vae):
    """The same generator under a key of its own, so that nobody shares it."""

    copy: int = 0


class Memory(threading.Thread):
    """Looks every few seconds at the memory of this process and of all that it started.

    Proportional set size (PSS): a page that k processes share counts 1/k in each, so a sum counts it once.
    """

    def __init__(self, interval: float) -> None:
        super().__init__(daemon=True)
        self.interval, self.over = interval, threading.Event()
        self.most: dict[str, float] = {}
        """MB of each kind of process, and its number, at the moment of the largest sum."""
        self.driver = 0.0
        """The most that this process held, MB."""
        self.cpu_seconds = 0.0
        """What looking has cost this process."""

    def run(self) -> None:
        while not self.over.wait(self.interval):
            now = memory()
            self.driver = max(self.driver, now["driver"])
            if sum(now.values()) > sum(self.most.values()):
                self.most = now
            self.cpu_seconds = time.thread_time()

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.join()


def memory() -> dict[str, float]:
    """MB (PSS) of this process and its descendants now, by kind; a name ends in the number of processes."""
    children = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (stat := _text(folder / "stat")):
            children[int(stat.rpartition(")")[2].split()[1])].append(int(folder.name))
    found: dict[str, list[float]] = defaultdict(list)
    left = children[os.getpid()]
    while left:
        process = left.pop()
        left += children[process]
        title = _text(Path(f"/proc/{process}/cmdline"))
        kind = next((kind for start, kind in KINDS.items() if title.startswith(start)), "Ray's own")
        found[kind].append(_pss(process))
    parts = {f"{kind} ({len(sizes)})": sum(sizes) for kind, sizes in sorted(found.items())}
    return {"driver": _pss(os.getpid()), **parts}


def told(now: dict[str, float]) -> str:
    """The parts and their sum in a line."""
    parts = ", ".join(f"{kind} {size:,.0f}" for kind, size in now.items())
    return f"{sum(now.values()):,.0f} MB in all: {parts}"


def _pss(process: int) -> float:
    lines = _text(Path(f"/proc/{process}/smaps_rollup")).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended
        return ""


def load() -> str:
    """What else keeps the machine busy, as far as the kernel tells."""
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs, torch threads {torch.get_num_threads()}"
