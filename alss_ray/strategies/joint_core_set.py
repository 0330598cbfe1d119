"""Joint core-set: samples count as alike only where both latent space and the network find them so.

For each round:

1. Every unlabelled and every labelled sample stands in two spaces: in latent space by its code E(x), and in the space
   of F's last features (as for `core_set`).
2. Both are scaled to the same total variance over the unlabelled samples, and put side by side: the squared distance of
   two samples is the weighted mean of the squared distances in the two spaces.
3. Greedy k-centre (Sener and Savarese 2018, Algorithm 1) labels what lies farthest from everything that is labelled.

F's features know what matters for the labels, but early on F has seen few and they are poor; the codes were learnt from
all images before there were labels, but know nothing of these. A sample that is far in both is new in either sense. The
codes need dimensions enough to tell images apart (n = 8 on the phantoms of `ivus`; with n = 3 it does no more than
`core_set`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from alss_ray.config import UsageError
from alss_ray.strategies.base import Learns, Pooled, Query, View
from alss_ray.strategies.covering import k_centre
from alss_ray.strategies.outputs import features, images_at, offered_rows


@dataclass(frozen=True)
class JointCoreSet(Pooled):
    """Label what lies farthest from everything that is labelled, in latent space and F's features side by side."""

    latent_share: float = 0.5
    """The latent space's share of a squared distance; the features have the rest."""

    name: ClassVar[str] = "joint_core_set"
    needs_embedding: ClassVar[bool] = True
    learns: ClassVar[Learns] = "maps"

    def __post_init__(self) -> None:
        if not 0 <= self.latent_share <= 1:
            raise UsageError(
                f"joint_core_set: latent_share is {self.latent_share}; give a number from 0 to 1."
            )

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        assert view.embedding is not None
        rows, labelled = offered_rows(view), view.labelled
        seen, seen_labelled = (
            features(view.network, part) for part in (images_at(view, rows), labelled.images)
        )
        spaces = (
            scaled(seen, seen_labelled, 1 - self.latent_share),
            scaled(view.embedding.codes[rows], labelled.points.cpu(), self.latent_share),
        )
        points, known = (torch.cat(parts, 1) for parts in zip(*spaces, strict=True))
        return Query(rows[k_centre(points, known, count)])


def scaled(points: Tensor, known: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Points `m x d` and known ones `k x d` on a scale that gives the points the total variance `weight`."""
    deviation = points.var(0, correction=0).sum().sqrt().clamp(min=1e-12)
    scale = weight**0.5 / deviation
    return scale * points, scale * known
