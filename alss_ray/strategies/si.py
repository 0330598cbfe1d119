"""Sampling by interpolation (Mo et al. 2020, Section 3.5 and Algorithm 2): synthesised images, labelled on the fly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from alss_ray.neighbours import nearest
from alss_ray.strategies.base import Query, View
from alss_ray.strategies.stepping import Stepping
from alss_ray.strategies.synthesis import Synthesis


@dataclass(frozen=True)
class Si(Synthesis, Stepping):
    """Step latent points towards higher loss; label and train on the images that the generator makes of them."""

    stepped_from: Literal["labelled", "fresh"] = "labelled"
    """Points to step from: labelled ones (line 7), or fresh draws with the label of the nearest labelled point."""

    name: ClassVar[str] = "si"

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        assert view.embedding is not None
        if view.t == 1:
            return self.query(view, self.draw(view.embedding, count, rng), {})
        if self.stepped_from == "labelled":
            sources = view.labelled.take(self.sources(view, count, rng))
            points, targets = sources.points, sources.targets
        else:
            points = self.draw(view.embedding, count, rng)
            known = view.labelled.points.cpu().numpy()
            near = torch.from_numpy(nearest(known, points.numpy()))
            targets = view.labelled.targets[near.to(view.labelled.targets.device)]
        stepped, counts = self.step(view, points, targets, rng)
        return self.query(view, stepped, counts)
