"""Sampling by nearest neighbour (Mo et al. 2020, Section 3.4 and Algorithm 1) and its controls.

The paper's text and its pseudo-code differ; each difference is an option here, so that an ablation can tell
them apart. The defaults follow the text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from alss_ray.config import UsageError, at_least
from alss_ray.labelled import LabelledSet
from alss_ray.latent import Directions, loss_gradient, normalised, random_directions
from alss_ray.neighbours import nearest, nearest_free
from alss_ray.strategies.base import Query, View
from alss_ray.tasks.base import to_bytes


@dataclass(frozen=True)
class Snn:
    """Step labelled samples towards higher loss in latent space; label the real samples nearest to where they land."""

    alpha: float = 1.0
    """α, the length of the step in latent space (Equation 2)."""
    direction: Literal["gradient", "random", "none"] = "gradient"
    """Where to step: along the loss's gradient; the same length at random (control); not at all (control, α = 0)."""
    normalise: bool = True
    """Divide the gradient by its length (Equation 2), or take it as it is (Algorithm 1, line 10)."""
    exclude_labelled: bool = True
    """Skip neighbours that are labelled already, so that a round buys J new labels; or allow them, as written."""
    decoded: bool = False
    """Train on the decoded neighbour G(p) with its label (line 12) instead of the real sample (Section 3.4)."""
    redraw_every: int = 1
    """Rounds between fresh draws of the points to step from (line 6: every round); 0 lets them evolve (Figure 4)."""

    name: ClassVar[str] = "snn"
    needs_embedding: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least("snn", 0, redraw_every=self.redraw_every)
        if self.direction == "none":
            object.__setattr__(self, "alpha", 0.0)  # one identity for one experiment
        elif not (math.isfinite(self.alpha) and self.alpha > 0):
            raise UsageError(
                f"snn: alpha is {self.alpha}; give a finite step length above 0, "
                "or --direction none for the control without a step."
            )

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        assert view.embedding is not None
        codes = view.embedding.codes
        sources = self._sources(view, count, rng)
        points = codes[sources.indices.cpu()]
        stepped, counts = self._step(view, points, sources, rng)
        if self.exclude_labelled:
            found = nearest_free(codes.numpy(), stepped.numpy(), view.free.numpy())
            indices = torch.from_numpy(found.indices)
            counts |= {
                "already_labelled": found.already_taken,
                "neighbour_shortfall": len(points) - len(found.indices),
            }
        else:
            allowed = (~view.barred).nonzero()[:, 0]
            indices = allowed[torch.from_numpy(nearest(codes[allowed].numpy(), stepped.numpy()))]
            counts |= {"already_labelled": int((~view.free[indices]).sum())}
        return Query(indices, self._decode(view, indices) if self.decoded else None, counts)

    def _sources(self, view: View, count: int, rng: torch.Generator) -> LabelledSet:
        """S of line 6: labelled samples to step from, without repetition while there are enough."""
        since = view.t - 2  # rounds of proposals before this one; the first always draws
        fresh = since == 0 or (self.redraw_every > 0 and since % self.redraw_every == 0)
        pool = view.labelled
        if not fresh:
            # The neighbours that the last round's points were moved to are exactly what it labelled.
            pool = pool.take((pool.rounds == view.t - 1).nonzero()[:, 0])
            if len(pool) >= count:
                return pool.take(torch.arange(count, device=pool.indices.device))
        order = [torch.randperm(len(pool), generator=rng) for _ in range(-(-count // len(pool)))]
        return pool.take(torch.cat(order)[:count].to(pool.indices.device))

    def _step(
        self, view: View, points: Tensor, sources: LabelledSet, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, int]]:
        """p' = p + α d on the CPU (Equation 2, or line 10 with the raw gradient)."""
        if self.direction == "none":
            return points, {}
        if self.direction == "random":
            return points + self.alpha * random_directions(points, rng), {}
        assert view.embedding is not None
        at = points.to(view.images.device)
        gradients = loss_gradient(view.network, view.embedding.decoder, view.loss, at, sources.targets).cpu()
        directions: Directions = normalised(gradients, rng)
        counts = {"zero_gradients": directions.zero, "invalid_gradients": directions.not_finite}
        if self.normalise:
            return points + self.alpha * directions.vectors, counts
        return points + self.alpha * gradients.nan_to_num(0.0, 0.0, 0.0), counts

    def _decode(self, view: View, indices: Tensor) -> Tensor:
        """G(p) of the neighbours, as 8-bit images on the CPU."""
        assert view.embedding is not None
        with torch.inference_mode():
            decoded = view.embedding.decoder(view.embedding.codes[indices].to(view.images.device))
        return to_bytes(decoded).cpu()
