"""What to annotate next in a folder of images: one round of the method on its own, without an experiment.

Stage 1 on all images, F on those that have labels, and the strategy's proposals as a batch for people
(oracles/batch.py). Labels that they leave in a batch are known the next time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alss_ray import rng
from alss_ray.config import Experiment
from alss_ray.devices import chosen
from alss_ray.generators.base import Embedding
from alss_ray.generators.store import GeneratorSource, Request
from alss_ray.labelled import LabelledSet
from alss_ray.oracles.base import Why
from alss_ray.oracles.dataset import DatasetOracle
from alss_ray.oracles.folder import FolderAnnotators
from alss_ray.oracles.people import Suggestion
from alss_ray.reasons import reasons
from alss_ray.strategies.base import Query, View, draw_free
from alss_ray.tasks.annotations import Annotations
from alss_ray.tasks.base import TaskData
from alss_ray.tasks.image_files import whole
from alss_ray.tasks.images import SHOWN, UNKNOWN
from alss_ray.training import evaluate, fresh_learners, train, training_set

HELD_OUT, FEWEST = 0.2, 50
"""The share of the labels that F's accuracy is measured on, where there are that many."""

Status = Callable[[str], None]


@dataclass(frozen=True)
class Known:
    """The images of a folder, and what is known of them."""

    data: TaskData
    """The images as F sees them, with their paths below the folder."""
    targets: Tensor
    """int64 `N`: classes, UNKNOWN where there is no label."""
    free: Tensor
    """bool `N`: what can be suggested: no label, not skipped, not suggested before."""
    round: int
    """The round of suggestions that comes next."""

    @property
    def labelled(self) -> Tensor:
        """Rows that have a label, int64."""
        return (self.targets != UNKNOWN).nonzero()[:, 0]


def known(task: Annotations, people: FolderAnnotators) -> tuple[Known, Sequence[str]]:
    """What the folder, its table and earlier suggestions say, and what is wrong with what was left in those.

    Raises:
        UsageError: see `Annotations`, or the suggestions are another question's.
    """
    data = task.load()
    assert isinstance(data.oracle, DatasetOracle)
    before = data.oracle.targets
    targets, free = before.clone(), before == UNKNOWN
    rows = {name: row for row, name in enumerate(data.names)}
    returned, batches = people.returned(), people.batches()
    for entry in (entry for batch in batches for entry in batch.entries):
        row, verdict = rows.get(entry.name), returned.verdicts.get(entry.key)
        if row is not None and before[row] == UNKNOWN:
            free[row] = False
            if verdict is not None and verdict.value is not None:
                targets[row] = verdict.value
    return Known(data, targets, free, len(batches) + 1), returned.complaints


class Adviser:
    """F and the latent space for what is known."""

    def __init__(self, experiment: Experiment, known: Known, source: GeneratorSource, status: Status) -> None:
        self.experiment, self.known, self.status = experiment, known, status
        self.task, self.device = experiment.task, chosen()
        self.images = known.data.images.to(self.device)
        self.embedding = self._embedding(source) if experiment.strategy.needs_embedding else None

    def accuracy(self) -> tuple[float, int] | None:
        """F's on labels that it was not trained on, and how many; None where there are too few to tell."""
        rows = self.known.labelled
        if len(rows) < FEWEST:
            return None
        self.status("training on a part of the labels, to measure on the others")
        rows = rows[torch.randperm(len(rows), generator=rng.stream(self.experiment.seed, "held out"))]
        size = round(HELD_OUT * len(rows))
        [(network, _), *_] = self._trained(rows[size:])
        held = rows[:size].to(self.device)
        return evaluate(
            network, self.images[held], self.known.targets.to(self.device)[held], self.task
        ).metric, size

    def suggestions(self, count: int) -> list[Suggestion]:
        """The next images to label, by the strategy; before the first label at random, and without reasons."""
        experiment, known = self.experiment, self.known
        draws = rng.stream(experiment.seed, "proposal", known.round, 0)
        labelled = self._set(known.labelled)
        if not len(labelled) and not experiment.strategy.fills_first_round:
            return self._suggested(Query(draw_free(known.free, count, draws)), ())
        self.status("training on the labels")
        members = [network.eval() for network, _ in self._trained(known.labelled)]
        self.status("looking for the most informative images")
        view = View(
            t=2 if len(labelled) else 1,
            network=members[0],
            images=self.images,
            free=known.free,
            barred=~known.free & (known.targets == UNKNOWN),
            labelled=labelled,
            loss=self.task.loss,
            embedding=self.embedding,
            members=members,
        )
        query = experiment.strategy.propose(view, count, draws)
        if not len(labelled):
            return self._suggested(query, ())
        shown = self.images[query.indices.to(self.device)]
        return self._suggested(query, reasons(self.task, members[0], self.embedding, labelled, query, shown))

    def _suggested(self, query: Query, why: Sequence[Why]) -> list[Suggestion]:
        found = []
        for k, index in enumerate(query.indices.tolist()):
            name = self.known.data.names[index]
            image = whole(self.task.images.expanduser() / name, SHOWN, self.task.channels)
            key = hashlib.sha256(name.encode() + image.tobytes()).hexdigest()
            found.append(
                Suggestion(key, image, index, name, "suggest", self.known.round, why[k] if why else Why())
            )
        return found

    def _trained(self, rows: Tensor) -> list[tuple[torch.nn.Module, torch.optim.Optimizer]]:
        learners = fresh_learners(self.experiment, self.device)
        if len(rows):
            labelled = training_set(self.experiment, self._set(rows), self.embedding)
            for member, learner in enumerate(learners):
                train(self.experiment, 1, member, learner, labelled, None)
        return learners

    def _set(self, rows: Tensor) -> LabelledSet:
        """The images at `rows` with their labels."""
        empty = LabelledSet.empty(self.images)
        if not len(rows):
            return empty
        points = None if self.embedding is None else self.embedding.codes[rows].to(self.device)
        targets, rows = self.known.targets[rows].to(self.device), rows.to(self.device)
        return empty.append(self.images[rows], targets, rows, 1, made=False, points=points)

    def _embedding(self, source: GeneratorSource) -> Embedding:
        data = self.known.data

        def progress(done: int, total: int) -> None:
            self.status(f"generator: {done} of {total} steps")

        request = Request(self.experiment.generator, data, data.fingerprint(), self.device, progress)
        return source.obtain(request).embedding
