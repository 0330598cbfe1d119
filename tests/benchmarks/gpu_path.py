"""How fast F trains: against the same loop written plainly with a DataLoader, against the device's limit, and shared.

    python tests/benchmarks/gpu_path.py                    # on a GPU
    python tests/benchmarks/gpu_path.py --data-dir DIR     # and one whole experiment on CIFAR-10
    python tests/benchmarks/gpu_path.py --steps 4 --batch-size 16 --images 200 --workers 1 --at-once 1 2   # two cores

Needs neither Ray nor data. Aim: 2 times the plain loop's images a second on a GPU. The limit is measured, too: the
rate of a large matrix product in the precision that training uses. Pictures are noise; speed does not mind.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import Compose, Normalize, ToTensor

from alss_ray import devices
from alss_ray.checkpoint import Learner
from alss_ray.cli import guarded
from alss_ray.config import Experiment
from alss_ray.experiment import Run
from alss_ray.generators.store import GeneratorStore
from alss_ray.labelled import LabelledSet
from alss_ray.materials import materials
from alss_ray.strategies import Random
from alss_ray.tasks import Cifar10
from alss_ray.tasks.cifar10 import DEVIATION, MEAN
from alss_ray.training import batch_order, evaluate, fit, fresh_learners

REPEATS = 3
WARM_UP = 3  # steps before the clock starts


@dataclass(frozen=True)
class Options:
    """Sizes."""

    device: str | None = None
    """The GPU where there is one unless given."""
    architecture: str = "vgg16"
    """vgg16 or resnet18."""
    images: int = 5000
    """Labelled images."""
    batch_size: int = 64
    """Images in a step."""
    steps: int = 300
    """Training steps of each measurement."""
    workers: int = 4
    """Processes of the plain loop's DataLoader; 0 for none."""
    at_once: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of experiments that share the device."""
    data_dir: Path | None = None
    """Folder with CIFAR-10; then one whole experiment is timed, ten rounds of 500."""


class Pictures(Dataset[tuple[Tensor, int]]):
    """The images as they are usually given: transformed one by one."""

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        self.images, self.targets = images.permute(0, 2, 3, 1).numpy(), targets.tolist()
        self.transform = Compose([ToTensor(), Normalize(MEAN, DEVIATION)])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(self.images[row]), self.targets[row]


def made(options: Options) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (options.images, 3, 32, 32), generator=draws, dtype=torch.uint8)
    return images, torch.randint(0, 10, (options.images,), generator=draws)


def settled(device: torch.device) -> float:
    """The time, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def plain(options: Options, device: torch.device) -> float:
    """Images a second of the usual loop."""
    network = Cifar10(architecture=options.architecture).network()[1].to(device)
    adam = torch.optim.Adam(network.parameters(), 1e-3)
    loader = DataLoader(
        Pictures(*made(options)), options.batch_size, shuffle=True, num_workers=options.workers,
        pin_memory=device.type == "cuda", drop_last=True, persistent_workers=options.workers > 0,
    )  # fmt: skip
    network.train()
    done = 0
    while True:
        for images, targets in loader:
            if done == WARM_UP:
                started = settled(device)
            loss = functional.cross_entropy(network(images.to(device, non_blocking=True)), targets.to(device))
            adam.zero_grad()
            loss.backward()
            adam.step()
            done += 1
            if done == WARM_UP + options.steps:
                return options.steps * options.batch_size / (settled(device) - started)


def prepared(
    options: Options, device: torch.device, bfloat16: bool
) -> tuple[Cifar10, Learner, Tensor, Tensor]:
    """Task, F with its optimiser as an experiment has them, images and classes, on the device."""
    devices.prepare(device)
    task = Cifar10(architecture=options.architecture)
    [learner] = fresh_learners(Experiment(task=task, strategy=Random(), bfloat16=bfloat16), device)
    images, targets = (part.to(device) for part in made(options))
    return task, learner, images, targets


def ours(
    options: Options,
    device: torch.device,
    ready: Callable[[], object] = lambda: None,
    bfloat16: bool = False,
) -> float:
    """Images a second of training.fit."""
    task, learner, images, targets = prepared(options, device, bfloat16)
    rows = torch.arange(len(images), device=device)
    labelled = LabelledSet.empty(images).append(images, targets, rows, 1, made=False)
    order = batch_order(len(labelled), options.steps + WARM_UP, options.batch_size, torch.Generator())
    fit(*learner, labelled, task, order[:WARM_UP], 0, None)
    ready()
    started = settled(device)
    fit(*learner, labelled, task, order[WARM_UP:], 0, None)
    return options.steps * options.batch_size / (settled(device) - started)


def evaluated(options: Options, device: torch.device, bfloat16: bool) -> float:
    """Images a second of training.evaluate."""
    task, (network, _), images, targets = prepared(options, device, bfloat16)
    evaluate(network, images, targets, task)
    started = settled(device)
    evaluate(network, images, targets, task)
    return len(images) / (settled(device) - started)


def limit(device: torch.device) -> float:
    """Operations a second of a large matrix product in training's precision."""
    side, kind = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    one = torch.randn(side, side, device=device, dtype=kind)
    rates = []
    for _ in range(REPEATS + 1):  # the first one warms up
        started = settled(device)
        for _ in range(10):
            one @ one
        rates.append(10 * 2 * side**3 / (settled(device) - started))
    return max(rates[1:])


def operations(network: nn.Module, batch_size: int) -> float:
    """Operations of a training step, an image's share."""
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(batch_size, 3, 32, 32)).sum().backward()
    return counter.get_total_flops() / batch_size


def one_of_many(options: Options, device: torch.device, barrier: object, rates: object) -> None:
    torch.set_num_threads(1)
    rates.put(ours(options, device, barrier.wait))  # type: ignore[attr-defined]


def together(options: Options, device: torch.device, count: int) -> float:
    """Images a second of `count` experiments at once, each in a process of its own."""
    processes = multiprocessing.get_context("spawn")
    barrier, rates = processes.Barrier(count), processes.Queue()
    started = [
        processes.Process(target=one_of_many, args=(options, device, barrier, rates)) for _ in range(count)
    ]
    for process in started:
        process.start()
    total = sum(rates.get() for _ in started)
    for process in started:
        process.join()
    return total


def experiment(options: Options, folder: Path, device: torch.device) -> float:
    """Seconds of a whole experiment by random selection: training, validations and tests."""
    task = Cifar10(data_dir=options.data_dir, architecture=options.architecture)  # type: ignore[arg-type]
    settings = {name: value for name, value in task.defaults.items() if name != "generator_iterations"}
    going = Experiment(task=task, strategy=Random(), **settings)
    shared = materials(task)
    started = time.perf_counter()
    list(Run(going, shared, folder, GeneratorStore(folder), device=device).rounds())
    return time.perf_counter() - started


def main() -> int:
    options = tyro.cli(Options, description=__doc__)
    device = devices.chosen(options.device)
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    print(f"{options.architecture}, batches of {options.batch_size}, {options.steps} steps, on {name}")
    pairs = [(ours(options, device), plain(options, device)) for _ in range(REPEATS)]
    mine, usual = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    ratios = ", ".join(f"{one / other:.2f}" for one, other in pairs)
    print(
        f"training.fit {mine:,.0f} images/s, plain loop {usual:,.0f} images/s: ratio {mine / usual:.2f} ({ratios})"
    )
    for what, rate in (
        ("trained", lambda on: ours(options, device, bfloat16=on)),
        ("evaluated", lambda on: evaluated(options, device, on)),
    ):
        pairs = [(rate(True), rate(False)) for _ in range(REPEATS)]
        gains = [one / other for one, other in pairs]
        told = ", ".join(f"{gain:.2f}" for gain in gains)
        print(f"with --bfloat16 {what} {statistics.median(gains):.2f} times as fast ({told})")
    best, each = limit(device), operations(Cifar10(architecture=options.architecture).network(), 8)
    print(
        f"{each / 1e9:.2f} GFLOP an image: {mine * each / 1e12:.2f} TFLOP/s of {best / 1e12:.2f} that a matrix product "
        f"reaches, {mine * each / best:.0%}"
    )
    alone = None
    for count in options.at_once:
        total = together(options, device, count)
        alone = alone or total / count
        print(f"{count} at once: {total:,.0f} images/s together, {total / alone:.2f} times one")
    if options.data_dir is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(f"one experiment of ten rounds: {experiment(options, Path(folder), device):.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(guarded(main))
