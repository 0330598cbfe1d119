"""What a sweep would run, buy and train, and how long that would take, by what a first trial took."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alss_ray.config import Experiment
from alss_ray.generators.store import GeneratorStore, Request
from alss_ray.materials import materials
from alss_ray.space import Choice, Float, Space, draw
from alss_ray.specs import fields
from alss_ray.sweep import Sweep

DRAWS = 200  # points of a space that stand for it
AROUND = ("propose", "append", "evaluate", "checkpoint")  # phases whose time does not hang on the settings
LISTED = 1000  # generators that are looked up one by one at most


@dataclass(frozen=True)
class Plan:
    """A sweep before it is run."""

    trials: int
    """Trials that are left."""
    finished: int
    experiments: int
    """Experiments that are left: a trial is one for each of its seeds; confirmations are counted, too."""
    confirming: int
    """Experiments of these that confirm the best, at most."""
    replicates: int
    """Experiments that a trial runs side by side."""
    labels: int
    """Training labels that are left to buy, at most."""
    validation_labels: int
    reference_labels: int
    """Labels of the whole-pool reference."""
    generators: int
    """Generators that may come up, at most."""
    trained: int
    """Those of them that the cache holds."""
    typical: Sequence[Experiment]
    """Experiments that stand for those that are left."""

    def lines(self) -> list[str]:
        """The plan in words."""
        own = self.experiments - self.confirming
        lines = [
            f"Trials left: {self.trials}, of {own} experiments; {self.finished} finished before.",
            f"Labels to be bought: at most {self.labels:,} to train on and {self.validation_labels:,} to validate on; "
            "those in the label cache are not bought again.",
            f"Generators to be trained: {self.generators - self.trained}, {self.trained} are in the cache.",
        ]
        if self.reference_labels:
            lines.append(f"The whole-pool reference beside them buys {self.reference_labels:,} labels.")
        if self.confirming:
            lines.insert(1, f"Confirming experiments at the end: up to {self.confirming}.")
        return lines

    def seconds(self, rows: Sequence[dict[str, Any]], slots: int, cores: int) -> float:
        """Time for what is left, by the rounds of experiments that were measured.

        The phases say how an experiment's time goes with its settings, the times at which rounds were recorded how
        long they took by the clock. Trials beyond `cores` slow one another down in proportion.

        Args:
            rows: rounds of the records.
            slots: trials at once.
            cores: trials that have cores of their own.

        It leaves out the start of Ray and of trials, and the training of generators where the rows tell of none.
        """
        iterations = sum(row["iterations"] for row in rows)
        fit = sum(row["fit_seconds"] for row in rows) / iterations
        around = statistics.fmean(sum(row[f"{name}_seconds"] for name in AROUND) for row in rows)
        label = sum(row["label_seconds"] for row in rows) / sum(row["n_new"] for row in rows)
        trained = [row["generator_seconds"] for row in rows if row["generator_trained"]]
        work = statistics.fmean(
            e.rounds * (e.iterations * fit + around) + e.label_budget * label for e in self.typical
        )
        training = (self.generators - self.trained) * max(trained, default=0.0)
        stretch, abreast = _by_the_clock(rows, self.replicates)
        alone = work * stretch / max(1.0, abreast / cores)
        return (self.experiments * alone + training) / max(1, min(slots, cores, self.trials))


def planned(sweep: Sweep, finished: int, left: int, cache: GeneratorStore) -> Plan:
    """The plan of a sweep of which so many trials are finished."""
    search = sweep.search
    if search is None:
        experiments = list(sweep.experiments)
        typical, count, confirming = experiments, left, 0
        wanted = {e.generator for e in experiments if e.generator is not None}
        generators, trained = len(wanted), _held(wanted, sweep, cache)
    else:
        chance = random.Random(sweep.base.seed)
        typical = [sweep.at(draw(search.space, chance)) for _ in range(DRAWS)]
        confirming = 2 * search.confirm * search.confirm_seeds
        count = left * search.replicates + confirming
        generators, trained = _generators(sweep, search.space, left, cache)
    budget, validation = sweep.base.label_budget, sweep.base.validation_size
    labels = count * budget
    if search is None:
        share = left / max(1, len(typical))
        labels = round(share * sum(e.label_budget for e in typical))
    known = sweep.reference
    return Plan(
        trials=left,
        finished=finished,
        experiments=count,
        confirming=confirming,
        replicates=search.replicates if search else 1,
        labels=labels,
        validation_labels=count * validation,
        reference_labels=known.label_budget if known else 0,
        generators=generators,
        trained=trained,
        typical=typical,
    )


def _by_the_clock(rows: Sequence[dict[str, Any]], replicates: int) -> tuple[float, float]:
    """How many times longer rounds took than their phases, and how many trials were at work at once meanwhile.

    From the second round of an attempt on, a round took the time since the one before was recorded, in which each
    of the trial's replicates has done a round. Both are 1 where no attempt has two rounds.
    """
    attempts: dict[tuple[str, int, int], dict[str, Any]] = {
        (row["experiment"], row["attempt"], row["t"]): row for row in rows
    }
    spans, phases = [], 0.0
    for (experiment, attempt, t), row in attempts.items():
        if (before := attempts.get((experiment, attempt, t - 1))) is not None:
            spans.append((before["recorded_at"], row["recorded_at"]))
            phases += sum(row[f"{name}_seconds"] for name in (*AROUND, "fit", "label"))
    if not spans:
        return 1.0, 1.0
    spent = sum((end - start).total_seconds() for start, end in spans) / replicates
    busy, until = 0.0, min(spans)[0]
    for start, end in sorted(spans):
        busy += max(0.0, (end - max(start, until)).total_seconds())
        until = max(until, end)
    return spent / phases, spent / busy


def _generators(sweep: Sweep, space: Space, trials: int, cache: GeneratorStore) -> tuple[int, int]:
    """How many generators a search may ask for, and how many of them there are already."""
    generator = sweep.base.generator
    if generator is None:
        return 0, 0
    known = fields(sweep.base)
    own = {name: part for name, part in space.items() if known[name].owner == "generator"}
    if any(isinstance(part, Float) for part in own.values()):
        return trials, 0
    values = [
        part.values if isinstance(part, Choice) else range(int(part.low), int(part.high) + 1)
        for part in own.values()
    ]
    possible = math.prod(map(len, values))
    if possible > LISTED:
        return min(possible, trials), 0
    wanted = {sweep.at(dict(zip(own, point, strict=True))).generator for point in itertools.product(*values)}
    held = _held(wanted, sweep, cache)
    return min(possible, held + trials), held


def _held(generators: Iterable[Any], sweep: Sweep, cache: GeneratorStore) -> int:
    shared = materials(sweep.base.task)
    cpu = torch.device("cpu")

    def key(generator: Any) -> str:
        return Request(generator, shared.data, shared.fingerprint, cpu, lambda done, total: None).key

    return sum(cache.content(key(generator)) is not None for generator in generators)
