"""Records without training: rows that the tests choose, written as experiments write theirs."""

import datetime
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from alss_ray.config import Experiment
from alss_ray.generators import Vae
from alss_ray.records import FOLDER, RecordWriter
from alss_ray.strategies import Random, Snn
from alss_ray.tasks import Digits

ROOT = Path(__file__).parents[2]
NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.timezone.utc)


def random(seed: int = 0, round_size: int = 10, label_budget: int = 40) -> Experiment:
    return Experiment(
        task=Digits(), strategy=Random(), round_size=round_size, label_budget=label_budget, seed=seed
    )


def snn(seed: int = 0, round_size: int = 10, label_budget: int = 40, **options) -> Experiment:
    return Experiment(
        task=Digits(),
        strategy=Snn(**options),
        generator=Vae(),
        round_size=round_size,
        label_budget=label_budget,
        iterations=100,
        seed=seed,
    )


def metric(seed: int, t: int) -> float:
    """A test metric that differs from row to row."""
    return 1 - 1 / (1.5 + t) - 0.013 * ((7 * seed + 3 * t) % 5)


def write(
    folder: Path,
    experiment: Experiment,
    rounds: Sequence[int],
    test_metric: Callable[[int], float] | None = None,
    **row: object,
) -> None:
    """One more attempt at an experiment, which records these rounds; two evaluations inside each."""
    chosen = test_metric or (lambda t: metric(experiment.seed, t))
    with RecordWriter(folder / FOLDER, experiment) as writer:
        for t in rounds:
            n = min(t * experiment.round_size, experiment.label_budget)
            halves = (1, experiment.iterations // 2), (2, experiment.iterations)
            curve = [
                {"t": t, "n_labels": n, "iteration": i, "val_metric": chosen(t) * k / 4, "val_loss": 1.0}
                for k, i in halves
            ]
            writer.write("curves", curve)
            full = {
                "t": t, "n_labels": n, "n_val_labels": experiment.validation_size, "metric": "accuracy",
                "higher_is_better": True, "val_guess": 0.1, "test_guess": 0.1,
                "val_metric": chosen(t) / 2, "test_metric": chosen(t), "val_aulc": 0.1 * t, "test_aulc": 0.2 * t,
                "oracle_calls": experiment.round_size + t, "refusals": t, "propose_seconds": 0.25 * t,
                "fit_seconds": 2.0, "evaluate_seconds": 0.5, "checkpoint_seconds": 100.0, **row,
            }  # fmt: skip
            writer.write("rounds", [full])


def script(name: str, *words: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Run an analysis script as people do."""
    command = [sys.executable, str(ROOT / "analysis" / name), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def heavy_modules(name: str, *words: object) -> str:
    """Run a script in a fresh interpreter; which of torch and Ray it had imported when it ended."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = {[name, *map(str, words)]!r}\n"
        f"sys.path.insert(0, {str(ROOT / 'analysis')!r})\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'analysis' / name)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print('status', end.code)\n"
        "print('heavy', sorted({'torch', 'ray', 'optuna'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "status 0" in done.stdout, done.stderr
    return done.stdout.splitlines()[-1]
