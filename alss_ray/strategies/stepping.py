"""What SNN and SI share: labelled points that are stepped towards higher loss (Equation 2), and the controls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from alss_ray.config import UsageError, at_least, component_name
from alss_ray.latent import loss_gradient, normalised, random_directions
from alss_ray.strategies.base import Learns, View


@dataclass(frozen=True)
class Stepping:
    """Options of the step. The paper's text and pseudo-code differ; the defaults follow the text."""

    alpha: float = 1.0
    """α, the length of the step in latent space (Equation 2)."""
    direction: Literal["gradient", "random", "none"] = "gradient"
    """Where to step: along the loss's gradient; the same length at random (control); not at all (control, α = 0)."""
    normalise: bool = True
    """Divide the gradient by its length (Equation 2), or take it as it is (Algorithms 1 and 2, line 10)."""
    redraw_every: int = 1
    """Rounds between fresh draws of the points to step from (the paper: every round); 0 lets them evolve (Figure 4)."""

    learns: ClassVar[Learns] = "anything"
    committee: ClassVar[int] = 1

    def __post_init__(self) -> None:
        at_least(component_name(self), 0, redraw_every=self.redraw_every)
        if self.direction == "none":
            object.__setattr__(self, "alpha", 0.0)  # one identity for one experiment
        elif not (math.isfinite(self.alpha) and self.alpha > 0):
            raise UsageError(
                f"{component_name(self)}: alpha is {self.alpha}; give a finite step length above 0, "
                "or --direction none for the control without a step."
            )

    def sources(self, view: View, count: int, rng: torch.Generator) -> Tensor:
        """Rows of the labelled set to step from, int64 on its device, without repetition while there are enough."""
        since = view.t - 2  # rounds of proposals before this one; the first always draws
        redrawn = self.redraw_every > 0 and since % self.redraw_every == 0
        fresh = since == 0 or redrawn or view.refill > 0
        rows = torch.arange(len(view.labelled), device=view.labelled.rounds.device)
        if not fresh:
            # What the last round labelled is what its points were moved to.
            rows = rows[view.labelled.rounds == view.t - 1]
            if len(rows) >= count:
                return rows[:count]
        order = [torch.randperm(len(rows), generator=rng) for _ in range(-(-count // len(rows)))]
        return rows[torch.cat(order)[:count].to(rows.device)]

    def step(
        self, view: View, points: Tensor, targets: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, int]]:
        """p' = p + α d for points `J x n` with labels `J x ...`, on the CPU, and what happened on the way."""
        at = points.cpu()
        if self.direction == "none":
            return at, {}
        # A replacement along the gradient could only repeat what the round asked for already.
        if self.direction == "random" or view.refill:
            return at + self.alpha * random_directions(at, rng), {}
        assert view.embedding is not None
        here = points.to(view.images.device)
        gradients = loss_gradient(view.network, view.embedding.decoder, view.loss, here, targets).cpu()
        directions = normalised(gradients, rng)
        counts = {"zero_gradients": directions.zero, "invalid_gradients": directions.not_finite}
        if self.normalise:
            return at + self.alpha * directions.vectors, counts
        return at + self.alpha * gradients.nan_to_num(0.0, 0.0, 0.0), counts


def decode(view: View, points: Tensor) -> Tensor:
    """G(p) for points `J x n`: float32 `J x C x H x W` in [0, 1] on the CPU."""
    assert view.embedding is not None
    with torch.inference_mode():
        return view.embedding.decoder(points.to(view.images.device)).cpu().clone()
