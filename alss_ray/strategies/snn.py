"""Sampling by nearest neighbour (Mo et al. 2020, Section 3.4 and Algorithm 1) and its controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from alss_ray.neighbours import nearest, nearest_free
from alss_ray.strategies.base import Query, View
from alss_ray.strategies.stepping import Stepping, decode
from alss_ray.tasks.base import to_bytes


@dataclass(frozen=True)
class Snn(Stepping):
    """Step labelled samples towards higher loss in latent space; label the real samples nearest to where they land."""

    exclude_labelled: bool = True
    """Skip neighbours that are labelled already, so that a round buys J new labels; or allow them, as written."""
    decoded: bool = False
    """Train on the decoded neighbour G(p) with its label (line 12) instead of the real sample (Section 3.4)."""

    name: ClassVar[str] = "snn"
    needs_embedding: ClassVar[bool] = True
    makes_images: ClassVar[bool] = False
    fills_first_round: ClassVar[bool] = False

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        assert view.embedding is not None
        codes = view.embedding.codes
        rows = self.sources(view, count, rng)
        sources = view.labelled.take(rows)
        stepped, counts = self.step(view, sources.points, sources.targets, rng)
        known = ~view.free & ~view.barred
        if self.exclude_labelled:
            found = nearest_free(codes.numpy(), stepped.numpy(), view.free.numpy())
            indices, kept = torch.from_numpy(found.indices), torch.from_numpy(found.points)
            rows, stepped = rows[kept.to(rows.device)], stepped[kept]
            counts |= {
                "already_labelled": int(known[torch.from_numpy(found.plain)].sum()),
                "neighbour_shortfall": count - len(found.indices),
            }
        else:
            allowed = (~view.barred).nonzero()[:, 0]
            indices = allowed[torch.from_numpy(nearest(codes[allowed].numpy(), stepped.numpy()))]
            counts |= {"already_labelled": int(known[indices].sum())}
        images = to_bytes(decode(view, codes[indices])) if self.decoded else None
        return Query(indices, images, sources=rows.cpu(), stepped=stepped, counts=counts)
