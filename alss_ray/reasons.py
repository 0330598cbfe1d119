"""Why a strategy's proposals are what they are, for people who are asked to label them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from alss_ray.generators.base import Embedding
from alss_ray.labelled import LabelledSet
from alss_ray.latent import loss_gradient
from alss_ray.oracles.base import Why
from alss_ray.strategies.base import Query
from alss_ray.strategies.margin import margin
from alss_ray.strategies.outputs import outputs
from alss_ray.tasks.base import Task


def reasons(
    task: Task,
    network: nn.Module,
    embedding: Embedding | None,
    labelled: LabelledSet,
    query: Query,
    images: Tensor,
) -> Sequence[Why]:
    """One for each proposal.

    Args:
        network: F, which is put into evaluation mode.
        images: uint8 `J x C x H x W` on its device: the proposals, as they are shown.
    """
    said = outputs(network.eval(), images)
    norms = torch.full((len(images),), torch.nan)
    if query.sources is not None and embedding is not None:
        sources = labelled.take(query.sources.to(labelled.indices.device))
        slopes = loss_gradient(network, embedding.decoder, task.loss, sources.points, sources.targets)
        norms = slopes.norm(dim=1).cpu()
    if said.dim() > 2:  # maps
        unit, _ = task.map_unit or (1.0, "")
        return [Why(norm, unit * one) for norm, one in zip(norms.tolist(), said, strict=True)]
    margins = margin(said.double().softmax(1)).tolist()
    return [Why(*why) for why in zip(norms.tolist(), said.argmax(1), margins, strict=True)]
