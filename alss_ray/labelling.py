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
    """`J x ...` on the CPU."""
    calls: int
    """Images sent to the oracle, refused ones included."""
    refusals: Mapping[str, int]
    """Reason -> number of images."""


@dataclass(frozen=True)
class Labeller:
    """Asks the oracle for labels of samples of D and of synthesised images."""

    oracle: Oracle
    pool: Tensor
    """uint8 `N x C x H x W` on the CPU: D."""

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
        queries: list[Query] = []
        targets: list[Tensor] = []
        calls, reasons = 0, Counter[str]()
        for refill in range(1, REFILLS + 1):
            values, refused, asked = self._ask(query, known)
            calls += asked
            reasons.update(refused.values())
            kept = torch.tensor([k for k in range(len(query.indices)) if k not in refused], dtype=torch.int64)
            queries.append(query.take(kept))
            targets.append(values[kept])
            _mark(taken, query.indices[kept], mark)
            _mark(taken, query.indices[list(refused)], REFUSED)
            if not refused:
                return Answer(Query.joined(queries), torch.cat(targets), calls, dict(reasons))
            query = again(len(refused), refill)
            if not len(query.indices):
                break
        missing = wanted - sum(map(len, targets))
        told = ", ".join(f"{number} x {reason}" for reason, number in reasons.most_common())
        raise ExperimentFailed(
            f"{missing} of {wanted} images could not be labelled: the oracle refused them and their "
            f"replacements ({told}); look at what the strategy proposes, or lower the round size."
        )

    def _ask(self, query: Query, known: LabelledSet) -> tuple[Tensor, dict[int, str], int]:
        """Labels by position, refusals by position, and the number of images the oracle had to look at."""
        bought = {index: row for row, index in enumerate(known.indices.tolist()) if index >= 0}
        first: dict[int, int] = {}
        indices = query.indices.tolist()
        asked = [
            position
            for position, index in enumerate(indices)
            if index < 0 or (index not in bought and first.setdefault(index, position) == position)
        ]
        if not asked:
            return known.targets[[bought[index] for index in indices]].cpu(), {}, 0
        answer = self.oracle.label(self._as_seen(query, asked))
        values = answer.values.new_zeros((len(indices), *answer.values.shape[1:]))
        values[asked] = answer.values
        refused = {asked[k]: reason for k, reason in answer.refusals.items()}
        for position, index in enumerate(indices):
            if index in bought:
                values[position] = known.targets[bought[index]]
            elif index >= 0 and (original := first[index]) != position:
                values[position] = values[original]
                if original in refused:
                    refused[position] = refused[original]
        return values, refused, len(asked)

    def _as_seen(self, query: Query, positions: list[int]) -> ImageBatch:
        """Real samples as they stand in D, synthesised ones as they were made."""
        indices = query.indices[positions]
        images = self.pool[indices.clamp(min=0)]
        if query.images is not None:
            images[indices < 0] = query.images[positions][indices < 0]
        return ImageBatch(images, indices)


def _mark(taken: Tensor, indices: Tensor, mark: int) -> None:
    taken[indices[indices >= 0]] = mark
