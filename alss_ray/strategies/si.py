"""Sampling by interpolation (Mo et al. 2020, Section 3.5 and Algorithm 2): synthesised images, labelled on the fly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from alss_ray.generators.base import Embedding
from alss_ray.neighbours import nearest
from alss_ray.strategies.base import Query, View
from alss_ray.strategies.stepping import Stepping, decode
from alss_ray.tasks.base import to_bytes


@dataclass(frozen=True)
class Si(Stepping):
    """Step latent points towards higher loss; label and train on the images that the generator makes of them."""

    first: Literal["latent", "real"] = "latent"
    """T(1): images of points drawn in latent space (Algorithm 2), or real samples."""
    stepped_from: Literal["labelled", "fresh"] = "labelled"
    """Points to step from: labelled ones (line 7), or fresh draws with the label of the nearest labelled point."""
    spread: Literal["unit", "data"] = "unit"
    """Draws in latent space: N(0, I) (line 2), or with the mean and covariance of E(D)."""
    fed: Literal["grey", "mask"] = "grey"
    """What F trains on: the decoded grey image as it is, or that image cut at one half."""

    name: ClassVar[str] = "si"
    needs_embedding: ClassVar[bool] = True
    makes_images: ClassVar[bool] = True

    @property
    def fills_first_round(self) -> bool:
        return self.first == "latent"

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        assert view.embedding is not None
        if view.t == 1:
            return self._query(view, self._draw(view.embedding, count, rng), {})
        if self.stepped_from == "labelled":
            sources = view.labelled.take(self.sources(view, count, rng))
            points, targets = sources.points, sources.targets
        else:
            points = self._draw(view.embedding, count, rng)
            known = view.labelled.points.cpu().numpy()
            near = torch.from_numpy(nearest(known, points.numpy()))
            targets = view.labelled.targets[near.to(view.labelled.targets.device)]
        stepped, counts = self.step(view, points, targets, rng)
        return self._query(view, stepped, counts)

    def _draw(self, embedding: Embedding, count: int, rng: torch.Generator) -> Tensor:
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

    def _query(self, view: View, points: Tensor, counts: dict[str, int]) -> Query:
        decoded = decode(view, points)
        grey = to_bytes(decoded)
        nowhere = torch.full((len(points),), -1, dtype=torch.int64)
        if self.fed == "grey":
            return Query(nowhere, grey, points, counts=counts)
        return Query(nowhere, to_bytes((decoded >= 0.5).float()), points, shown=grey, counts=counts)
