"""Filling a query with labels: nothing is bought twice, and what the oracle refuses is replaced, never made up."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alss_ray import rng
from alss_ray.config import Experiment, ExperimentFailed
from alss_ray.labelled import LabelledSet
from alss_ray.oracles import base
from alss_ray.oracles.base import ImageBatch, Labels, Oracle, Why
from alss_ray.strategies.base import Query, draw_free

FREE, LABELLED, VALIDATION, REFUSED = range(4)
"""What has become of a sample of D."""
REFILLS = 20  # proposals for refused images in one round before it is given up


@dataclass(frozen=True)
class Answer:
    """A query that has its labels."""

    query: Query
    """As many samples as were asked for, none of them refused."""
    targets: Tensor
    """`J x ...` on the CPU, as the task's targets."""
    calls: int
    """Images sent to the oracle, refused ones included."""
    bought: int
    """Those of them that no cache had."""
    refusals: Mapping[str, int]
    """Reason -> number of images."""
    errands: Sequence[dict[str, Any]] = ()
    """Rows of the records, of kind `labels`: one for each image that people were asked for."""


Explain = Callable[[Query, Tensor], Sequence[Why]]
"""(proposals, their images as the oracle sees them) -> why each was made; empty where there is no telling."""


@dataclass(frozen=True)
class Labeller:
    """Asks the oracle for labels of samples of D and of synthesised images."""

    oracle: Oracle
    pool: Tensor
    """uint8 `N x C x H x W` on the CPU: D."""
    encode: Callable[[Tensor], Tensor]
    """The oracle's values as the task's targets."""
    asker: str = ""
    """Identity of the experiment."""
    explain: Explain = lambda query, images: ()
    """Called where the oracle wants to know (`Oracle.explained`)."""

    def fill(
        self,
        query: Query,
        again: Callable[[int, int], Query],
        known: LabelledSet,
        taken: Tensor,
        mark: int,
        t: int,
    ) -> Answer:
        """Label a query. Refused images are replaced by `again(how many, which try)`.

        Args:
            known: samples whose labels are not bought again when they are asked for once more.
            taken: int8 `N`, what has become of each sample of D; updated with `mark` and REFUSED.
            t: the round that the labels are for, or `oracles.base.VALIDATION`.

        Raises:
            Waiting: people have yet to give some; `taken` may have changed by then.
            ExperimentFailed: images are still refused after REFILLS tries, or nothing was left to ask for.
        """
        wanted = len(query.indices)
        bought = {index: known.targets[row] for row, index in enumerate(known.indices.tolist()) if index >= 0}
        queries: list[Query] = []
        targets: list[Tensor] = []
        calls, bought_now, reasons = 0, 0, Counter[str]()
        dealings: list[tuple[ImageBatch, Labels]] = []
        for refill in range(1, REFILLS + 1):
            answers, batch, labels = self._ask(query, bought, t)
            calls += len(batch)
            bought_now += len(batch) if labels.bought is None else labels.bought
            reasons.update(labels.refusals.values())
            dealings.append((batch, labels))
            accepted = torch.tensor([answer is not None for answer in answers])
            queries.append(query.take(accepted))
            targets += [answer.cpu() for answer in answers if answer is not None]
            _mark(taken, query.indices[accepted], mark)
            _mark(taken, query.indices[~accepted], REFUSED)
            if len(targets) == wanted:
                errands = _rows(dealings, t=t, n_labels=len(known))
                return Answer(
                    Query.joined(queries), torch.stack(targets), calls, bought_now, dict(reasons), errands
                )
            query = again(wanted - len(targets), refill)
            if not len(query.indices):
                break
        told = ", ".join(f"{number} x {reason}" for reason, number in reasons.most_common())
        raise ExperimentFailed(
            f"{wanted - len(targets)} of {wanted} images could not be labelled: the oracle refused them and their "
            f"replacements ({told}); look at what the strategy proposes, or lower the round size."
        )

    def announce(self, query: Query, t: int) -> None:
        """Tell an oracle of people what they will be asked for in round t, so that they can begin with it now."""
        if (announce := getattr(self.oracle, "announce", None)) is not None:
            announce(self._as_seen(query, t))

    def _ask(
        self, query: Query, bought: dict[int, Tensor], t: int
    ) -> tuple[list[Tensor | None], ImageBatch, Labels]:
        """A label or None for each proposal, and what the oracle was asked and said.

        Labels of samples of D are added to `bought`, so that none is asked for again.
        """
        indices = query.indices.tolist()
        first: dict[int, int] = {}
        asked = [
            position
            for position, index in enumerate(indices)
            if index < 0 or (index not in bought and first.setdefault(index, position) == position)
        ]
        batch = self._as_seen(query.take(torch.tensor(asked, dtype=torch.int64)), t)
        labels = self.oracle.label(batch) if asked else Labels(torch.empty(0))
        # With every image refused there is nothing to encode, and no telling of what kind.
        values = self.encode(labels.values) if len(labels.refusals) < len(asked) else labels.values
        made: dict[int, Tensor] = {}
        for k, position in enumerate(asked):
            if k in labels.refusals:
                continue
            if indices[position] < 0:
                made[position] = values[k]
            else:
                bought[indices[position]] = values[k]
        given = [made.get(k) if index < 0 else bought.get(index) for k, index in enumerate(indices)]
        return given, batch, labels

    def _as_seen(self, query: Query, t: int) -> ImageBatch:
        """Real samples as they stand in D, synthesised ones as they were made."""
        images = self.pool[query.indices.clamp(min=0)]
        made = query.images if query.shown is None else query.shown
        if made is not None:
            images[query.indices < 0] = made[query.indices < 0]
        why = self.explain(query, images) if getattr(self.oracle, "explained", False) and t > 1 else ()
        return ImageBatch(images, query.indices, self.asker, t, why)


def first_draws(experiment: Experiment, size: int) -> tuple[Tensor, Tensor]:
    """Positions in D of the validation set and of T(1), as they are drawn before anything is labelled.

    T(1) is empty where the strategy fills it.
    """
    free = torch.ones(size, dtype=torch.bool)
    validation = draw_free(free, experiment.validation_size, rng.stream(experiment.seed, "validation", 0))
    free[validation] = False
    count = 0 if experiment.strategy.fills_first_round else experiment.round_size
    return validation, draw_free(free, count, rng.stream(experiment.seed, "proposal", 1, 0))


def label_validation(
    experiment: Experiment, labeller: Labeller, nothing: LabelledSet, taken: Tensor
) -> Answer:
    """The validation set with its labels; marks it in `taken`. People are told of T(1), to label both in one go."""
    drawn, first = first_draws(experiment, len(taken))

    def again(count: int, refill: int) -> Query:
        free = taken == FREE
        spared = free.index_fill(0, first, False)  # T(1) stays as it was drawn, where D has room for that
        draws = rng.stream(experiment.seed, "validation", refill)
        return Query(draw_free(spared if spared.sum() >= count else free, count, draws))

    labeller.announce(Query(first), 1)
    return labeller.fill(Query(drawn), again, nothing, taken, VALIDATION, base.VALIDATION)


def _rows(dealings: Sequence[tuple[ImageBatch, Labels]], **about: int) -> list[dict[str, Any]]:
    """What is to be written down of labels that people gave."""
    rows: list[dict[str, Any]] = []
    given = ((batch, labels, k) for batch, labels in dealings for k in sorted(labels.errands))
    for batch, labels, k in given:
        errand = labels.errands[k]
        why = batch.why[k] if batch.why else Why()
        refusal = labels.refusals.get(k)
        rows.append(
            {
                **about,
                "ordinal": len(rows),
                "sample": int(batch.indices[k]),
                "label": _class(None if refusal else labels.values[k]),
                "refusal": refusal,
                "predicted": _class(why.predicted),
                "margin": _number(why.margin),
                "gradient_norm": _number(why.gradient_norm),
                "asker": errand.asker,
                "asked_at": _time(errand.asked),
                "came_at": _time(errand.came),
                "person_seconds": _number(errand.seconds),
                "votes": errand.votes or None,
            }
        )
    return rows


def _class(value: Tensor | None) -> int | None:
    return int(value) if value is not None and not value.ndim else None


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def _mark(taken: Tensor, indices: Tensor, mark: int) -> None:
    taken[indices[indices >= 0]] = mark
