"""Expected gradient length (Settles and Craven 2008), with a committee's maps as pseudo-labels (Cai et al. 2013)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from alss_ray.config import at_least
from alss_ray.strategies.base import Learns, Pooled, Query, View
from alss_ray.strategies.outputs import highest, images_at, last_layer, offered_rows
from alss_ray.tasks.base import to_unit

CHUNK = 100  # images whose gradients are taken at once


@dataclass(frozen=True)
class GradientLength(Pooled):
    """Label what would move F's last layer most, were the other members' maps its labels; their mean length counts."""

    committee: int = 3  # type: ignore[misc]
    """Networks that are trained, F among them."""

    name: ClassVar[str] = "gradient_length"
    learns: ClassVar[Learns] = "maps"

    def __post_init__(self) -> None:
        at_least("gradient_length", 2, committee=self.committee)

    def propose(self, view: View, count: int, rng: torch.Generator) -> Query:
        rows = offered_rows(view)
        lengths = [
            torch.stack([gradient_lengths(view, chunk, member) for member in view.members[1:]]).mean(0)
            for chunk in images_at(view, rows).split(CHUNK)
        ]
        return Query(rows[highest(torch.cat(lengths), count)])


def gradient_lengths(view: View, images: Tensor, teacher: nn.Module) -> Tensor:
    """Length of the loss's gradient by the weights of F's last layer, `m`, with a teacher's outputs as labels."""
    network, layer = view.network, last_layer(view.network)
    names = {name for name, p in network.named_parameters() if any(p is own for own in layer.parameters())}
    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    still = {name: value.detach() for name, value in state.items() if name not in names}
    moving = {name: value.detach() for name, value in state.items() if name in names}
    given = to_unit(images)
    with torch.no_grad():
        wanted = teacher(given)

    def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        answer = functional_call(network, {**still, **weights}, (image[None],))
        return view.loss(answer, label[None]).sum()

    slopes = vmap(grad(loss), (None, 0, 0))(moving, given, wanted)
    squares = sum(slope.flatten(1).square().sum(1) for slope in slopes.values())
    assert isinstance(squares, Tensor)
    return squares.sqrt().cpu()
