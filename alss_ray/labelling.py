"""Filling a query with labels: nothing is bought twice, and what the oracle refuses is replaced, never made up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from alss_ray.config import ExperimentFailed
from alss_ray.labelled import LabelledSet
from alss_ray.oracles.base import ImageBatch, Oracle
from alss_ray.strategies.base import Query

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


@dataclass(frozen=True)
class Labeller:
    """Asks the oracle for labels of samples of D and of synthesised images."""

    oracle: Oracle
    pool: Tensor
    """uint8 `N x C x H x W` on the CPU: D."""
    encode: Callable[[Tensor], Tensor]
    """The oracle's values as the task's targets."""

    def fill(
        self,
        query: Query,
        again: Callable[[int, int], Query],
        known: LabelledSet,
        taken: Tensor,
        mark: int,
    ) -> Answer:
        """Label a query. Refused images are replaced by `again(how many, which try)`.

        Args:
            known: samples whose labels are not bought again when they are asked for once more.
            taken: int8 `N`, what has become of each sample of D; updated with `mark` and REFUSED.

        Raises:
            ExperimentFailed: images are still refused after REFILLS tries, or nothing was left to ask for.
        """
        wanted = len(query.indices)
        bought = {index: known.targets[row] for row, index in enumerate(known.indices.tolist()) if index >= 0}
        queries: list[Query] = []
        targets: list[Tensor] = []
        calls, bought_now, reasons = 0, 0, Counter[str]()
        for refill in range(1, REFILLS + 1):
            answers, refusals, asked, paid = self._ask(query, bought)
            calls += asked
            bought_now += paid
            reasons.update(refusals)
            accepted = torch.tensor([answer is not None for answer in answers])
            queries.append(query.take(accepted))
            targets += [answer.cpu() for answer in answers if answer is not None]
            _mark(taken, query.indices[accepted], mark)
            _mark(taken, query.indices[~accepted], REFUSED)
            if len(targets) == wanted:
                return Answer(Query.joined(queries), torch.stack(targets), calls, bought_now, dict(reasons))
            query = again(wanted - len(targets), refill)
            if not len(query.indices):
                break
        told = ", ".join(f"{number} x {reason}" for reason, number in reasons.most_common())
        raise ExperimentFailed(
            f"{wanted - len(targets)} of {wanted} images could not be labelled: the oracle refused them and their "
            f"replacements ({told}); look at what the strategy proposes, or lower the round size."
        )

    def _ask(
        self, query: Query, bought: dict[int, Tensor]
    ) -> tuple[list[Tensor | None], list[str], int, int]:
        """A label or None for each proposal, the reasons of refusal, images sent, and those that no cache had.

        Labels of samples of D are added to `bought`, so that none is asked for again.
        """
        indices = query.indices.tolist()
        first: dict[int, int] = {}
        asked = [
            position
            for position, index in enumerate(indices)
            if index < 0 or (index not in bought and first.setdefault(index, position) == position)
        ]
        if not asked:
            return [bought[index] for index in indices], [], 0, 0
        answer = self.oracle.label(self._as_seen(query, asked))
        # With every image refused there is nothing to encode, and no telling of what kind.
        values = self.encode(answer.values) if len(answer.refusals) < len(asked) else answer.values
        made: dict[int, Tensor] = {}
        for k, position in enumerate(asked):
            if k in answer.refusals:
                continue
            if indices[position] < 0:
                made[position] = values[k]
            else:
                bought[indices[position]] = values[k]
        given = [made.get(k) if index < 0 else bought.get(index) for k, index in enumerate(indices)]
        paid = len(asked) if answer.bought is None else answer.bought
        return given, list(answer.refusals.values()), len(asked), paid

    def _as_seen(self, query: Query, positions: list[int]) -> ImageBatch:
        """Real samples as they stand in D, synthesised ones as they were made."""
        indices = query.indices[positions]
        images = self.pool[indices.clamp(min=0)]
        made = query.images if query.shown is None else query.shown
        if made is not None:
            images[indices < 0] = made[positions][indices < 0]
        return ImageBatch(images, indices)


def _mark(taken: Tensor, indices: Tensor, mark: int) -> None:
    taken[indices[indices >= 0]] = mark
