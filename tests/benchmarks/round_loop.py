"""The round loop beside a bare PyTorch loop that takes the same training steps and evaluations, in one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/round_loop.py [MNIST_FOLDER]

Aims: at most 1.15 times the bare loop's time, and at most 10 % of a trial's time neither training nor
evaluation. Digits unless a folder with MNIST is given. Stage 1 is trained before and not counted.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.nn import functional

from alss_ray import rng
from alss_ray.config import Experiment
from alss_ray.experiment import Run
from alss_ray.generators import Vae
from alss_ray.generators.store import GeneratorStore
from alss_ray.materials import materials
from alss_ray.strategies import Snn
from alss_ray.tasks import Digits, Mnist

REPEATS = 3


def bare(experiment: Experiment, order: torch.Tensor) -> float:
    """Seconds of a plain loop: growing training set, Adam, the same validations and tests."""
    data = materials(experiment.task).data
    images, targets = data.images.float() / 255, data.oracle.targets
    test_images, test_targets = data.test_images.float() / 255, data.test_targets
    validation = order[-experiment.validation_size :]
    with rng.scope(experiment.seed, "init"):
        network = experiment.task.network()
    optimiser = torch.optim.Adam(network.parameters(), experiment.learning_rate)

    def test(x: torch.Tensor, y: torch.Tensor) -> float:
        network.eval()
        with torch.inference_mode():
            outputs = torch.cat([network(part) for part in x.split(500)])
            functional.cross_entropy(outputs, y)
            return (outputs.argmax(1) == y).float().mean().item()

    started = time.perf_counter()
    for t in range(1, experiment.rounds + 1):
        rows = order[: min(t * experiment.round_size, experiment.label_budget)]
        x, y = images[rows], targets[rows]
        network.train()
        for iteration in range(1, experiment.iterations + 1):
            batch = torch.randint(len(x), (min(experiment.batch_size, len(x)),))
            loss = functional.cross_entropy(network(x[batch]), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if iteration % experiment.evaluate_every == 0 and iteration < experiment.iterations:
                test(images[validation], targets[validation])
                network.train()
        test(images[validation], targets[validation])
        test(test_images, test_targets)
    return time.perf_counter() - started


def main() -> None:
    torch.set_num_threads(1)
    task = Mnist(Path(sys.argv[1])) if len(sys.argv) > 1 else Digits()
    defaults = {name: value for name, value in task.defaults.items() if name != "generator_iterations"}
    generator = Vae(generator_iterations=500)
    experiment = Experiment(task=task, strategy=Snn(), generator=generator, **defaults)
    order = torch.randperm(len(materials(task).data.images), generator=rng.stream(0, "benchmark"))
    ratios = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            run = Run(experiment, materials(task), Path(folder), GeneratorStore(Path(folder)))
            started = time.perf_counter()
            rows = list(run.rounds())
            ours = time.perf_counter() - started
        plain = bare(experiment, order)
        work = sum(row["fit_seconds"] + row["evaluate_seconds"] for row in rows)
        ratios.append(ours / plain)
        print(
            f"{task.name}: round loop {ours:.2f} s, bare loop {plain:.2f} s, ratio {ours / plain:.3f}; "
            f"neither training nor evaluation {1 - work / ours:.1%} of the trial"
        )
    print(f"median ratio {sorted(ratios)[REPEATS // 2]:.3f}")


if __name__ == "__main__":
    main()
