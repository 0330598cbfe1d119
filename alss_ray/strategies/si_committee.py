"""Synthesised images on which a committee disagrees: its variance ascended in latent space.

Query synthesis (Angluin 1988) by the gradient of query by committee's variance (Krogh and Vedelsby 1995) instead of
the loss at known labels, within a trust region where the generator knows images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from alss_ray.config import at_least, positive
from alss_ray.latent import normalised
from alss_ray.strategies.base import Learns, Query, View
from alss_ray.strategies.synthesis import Synthesis

EDGE = 0.99  # share of E(D) that lies inside the trust region
CHUNK = 128  # points whose gradients are taken at once


@dataclass(frozen=True)
class SiCommittee(Synthesis):
    """Draw points, step each uphill in the variance of several networks' maps, label the images that they become.

    Each replacement of refused images takes a step less than the one before, and ends as a plain draw.
    """

    alpha: float = 0.3
    """α, the length of a step in latent space."""
    steps: int = 3
    """Steps uphill."""
    committee: int = 3  # type: ignore[misc]
    """Networks that are trained, F among them."""

    name: ClassVar[str] = "si_committee"
    learns: ClassVar[Learns] = "maps"

    def __post_init__(self) -> None:
        positive("si_committee", alpha=self.alpha)
        at_least("si_committee", 0, steps=self.steps)
        at_least("si_committee", 2, committee=self.committee)

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        assert view.embedding is not None
        points = self.draw(view.embedding, count, rng)
        if view.t == 1:
            return self.query(view, points, {})
        region = TrustRegion(view.embedding.codes)
        counts = {"zero_gradients": 0, "invalid_gradients": 0}
        for _ in range(self.steps - view.refill):
            directions = normalised(variance_gradient(view, points), rng)
            points = region.nearest(points + self.alpha * directions.vectors)
            counts["zero_gradients"] += directions.zero
            counts["invalid_gradients"] += directions.not_finite
        return self.query(view, points, counts)


def variance_gradient(view: View, points: Tensor) -> Tensor:
    """Gradient at points `J x n` on the CPU of the variance of the members' outputs at G(p), mean over the pixels."""
    assert view.embedding is not None
    rows = []
    for chunk in points.to(view.images.device).split(CHUNK):
        at = chunk.detach().requires_grad_()
        image = view.embedding.decoder(at)
        answers = torch.stack([member(image) for member in view.members])
        total = answers.var(0, correction=1).flatten(1).mean(1).sum()
        rows.append(torch.autograd.grad(total, at)[0].cpu())
    return torch.cat(rows)


class TrustRegion:
    """A ball around the mean of E(D), in units of its standard deviations, that holds EDGE of it."""

    def __init__(self, codes: Tensor) -> None:
        self.middle, self.width = codes.mean(0), codes.std(0).clamp(min=1e-6)
        self.radius = ((codes - self.middle) / self.width).norm(dim=1).quantile(EDGE)

    def nearest(self, points: Tensor) -> Tensor:
        """The points, those outside drawn back to the border along the line to the middle."""
        away = (points - self.middle) / self.width
        length = away.norm(dim=1, keepdim=True)
        return self.middle + self.width * away * (self.radius / length.clamp(min=1e-12)).clamp(max=1.0)
