"""BADGE: diverse gradient embeddings (Ash et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from alss_ray.strategies.base import Pooled, Query, View
from alss_ray.strategies.covering import d_squared
from alss_ray.strategies.outputs import features, images_at, offered_rows, probabilities


@dataclass(frozen=True)
class Badge(Pooled):
    """k-means++ seeds among the gradients of the last layer's weights at the predicted classes (Algorithm 1).

    The gradient of a sample is the outer product of p - e_ŷ and the features h, so distances come from the two
    factors and no gradient is written out. The first seed is the longest gradient, as in the authors' program.
    """

    name: ClassVar[str] = "badge"

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        rows = offered_rows(view)
        images = images_at(view, rows)
        p = probabilities(view.network, images)
        slopes = p - one_hot(p.argmax(1), p.shape[1])
        seeds = Seeds(slopes, features(view.network, images).double())
        return Query(rows[d_squared(int(seeds.squares.argmax()), seeds.gaps_to, count, rng)])


class Seeds:
    """Distances between outer products of slopes `m x classes` and features `m x d`."""

    def __init__(self, slopes: Tensor, inputs: Tensor) -> None:
        self.slopes, self.inputs = slopes, inputs
        self.squares = slopes.square().sum(1) * inputs.square().sum(1)

    def gaps_to(self, row: int) -> Tensor:
        """Squared distance of all to the one at `row`, `m`."""
        products = (self.slopes @ self.slopes[row]) * (self.inputs @ self.inputs[row])
        return self.squares + self.squares[row] - 2 * products
