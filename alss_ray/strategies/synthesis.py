"""What strategies that label synthesised images share: draws in latent space, and what F and the oracle are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from alss_ray.generators.base import Embedding
from alss_ray.strategies.base import Learns, Query, View
from alss_ray.strategies.stepping import decode
from alss_ray.tasks.base import to_bytes


@dataclass(frozen=True)
class Synthesis:
    """Options of images that the generator makes of latent points."""

    first: Literal["latent", "real"] = "latent"
    """T(1): images of points drawn in latent space (Algorithm 2), or real samples."""
    spread: Literal["unit", "data"] = "unit"
    """Draws in latent space: N(0, I) (line 2), or with the mean and covariance of E(D)."""
    fed: Literal["grey", "mask"] = "grey"
    """What F trains on: the decoded grey image as it is, or that image cut at one half."""

    needs_embedding: ClassVar[bool] = True
    makes_images: ClassVar[bool] = True
    learns: ClassVar[Learns] = "anything"
    committee: ClassVar[int] = 1

    @property
    def fills_first_round(self) -> bool:
        return self.first == "latent"

    def draw(self, embedding: Embedding, count: int, rng: torch.Generator) -> Tensor:
        """Points `count x n` from N(0, I) or from the normal distribution that fits E(D)."""
        codes = embedding.codes
        points = torch.randn(count, codes.shape[1], generator=rng)
        if self.spread == "unit":
            return points
        covariance = torch.cov(codes.T).reshape(codes.shape[1], -1)
        # A latent dimension that collapsed has no variance; a trace of it keeps the factor defined.
        jitter = 1e-6 * covariance.diagonal().mean().clamp(min=1e-12)
        factor = torch.linalg.cholesky(covariance + jitter * torch.eye(len(covariance)))
        return codes.mean(0) + points @ factor.T

    def query(self, view: View, points: Tensor, counts: dict[str, int]) -> Query:
        """The images of points `J x n` on the CPU, as F and the oracle are to see them."""
        decoded = decode(view, points)
        grey = to_bytes(decoded)
        nowhere = torch.full((len(points),), -1, dtype=torch.int64)
        if self.fed == "grey":
            return Query(nowhere, grey, points, counts=counts)
        return Query(nowhere, to_bytes((decoded >= 0.5).float()), points, shown=grey, counts=counts)
