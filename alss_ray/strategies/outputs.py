"""What networks make of samples: outputs, class probabilities and features, in chunks, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from alss_ray import rng
from alss_ray.strategies.base import View
from alss_ray.tasks.base import to_unit

CHUNK = 500  # images at once
WIDEST = 1024  # numbers of a feature beyond which it is sketched
SKETCH = 512  # numbers of a sketch


@torch.inference_mode()
def outputs(network: nn.Module, images: Tensor) -> Tensor:
    """F's outputs `m x ...` for uint8 images `m x C x H x W` on its device; the outputs come to the CPU."""
    parts = [network(to_unit(chunk)).cpu() for chunk in images.split(CHUNK)]
    return torch.cat(parts)


def probabilities(network: nn.Module, images: Tensor) -> Tensor:
    """Class probabilities, float64 `m x classes`."""
    return outputs(network, images).double().softmax(1)


def last_layer(network: nn.Module) -> nn.Module:
    """The last layer that has weights: linear or convolution."""
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    return [layer for layer in network.modules() if isinstance(layer, kinds)][-1]


@torch.inference_mode()
def features(network: nn.Module, images: Tensor) -> Tensor:
    """What enters F's last layer, float32 `m x d`.

    Maps of more than WIDEST numbers are sketched: multiplied by one fixed Gaussian matrix, which keeps inner
    products and distances in expectation (as Holzmueller et al. 2023).
    """
    caught: list[Tensor] = []
    hook = last_layer(network).register_forward_pre_hook(lambda layer, given: caught.append(given[0]))
    sketch: Tensor | None = None
    parts = []
    try:
        for chunk in images.split(CHUNK):
            network(to_unit(chunk))
            flat = caught.pop().flatten(1).float()  # a network in bfloat16 hands that on
            if flat.shape[1] > WIDEST:
                if sketch is None:
                    drawn = torch.randn(flat.shape[1], SKETCH, generator=rng.stream(0, "sketch"))
                    sketch = (drawn / SKETCH**0.5).to(flat)
                flat = flat @ sketch
            parts.append(flat.cpu())
    finally:
        hook.remove()
    return torch.cat(parts)


def free_rows(view: View) -> Tensor:
    """Positions in D that can be asked for, int64, ascending."""
    return view.free.nonzero()[:, 0]


def offered_rows(view: View) -> Tensor:
    """Positions in D that can be asked for and that networks may look at, int64, ascending."""
    return free_rows(view) if view.offered is None else view.offered


def images_at(view: View, rows: Tensor) -> Tensor:
    """D's images at `rows`, on the device of F."""
    return view.images[rows.to(view.images.device)]


def committee_probabilities(members: Sequence[nn.Module], images: Tensor) -> Tensor:
    """Class probabilities of every member, float64 `members x m x classes`."""
    return torch.stack([probabilities(member, images) for member in members])


def highest(scores: Tensor, count: int) -> Tensor:
    """Positions of the `count` highest scores, the best first; ties go to the lower position."""
    return scores.argsort(descending=True, stable=True)[:count]


def entropy(p: Tensor) -> Tensor:
    """Shannon entropy in nats over the last dimension."""
    return -torch.xlogy(p, p).sum(-1)
