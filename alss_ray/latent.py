"""Equations 1 and 2: the loss's gradient at latent points through the frozen generator, and the step along it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CHUNK = 512  # points back-propagated at once; bounds memory, not the result
NUMBERS = 2**19  # in the images of those points: fewer points where images are large


def loss_gradient(
    network: nn.Module,
    decode: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    points: Tensor,
    targets: Tensor,
) -> Tensor:
    """dL/dp of Equation 1, `J x n`, for points `J x n` and their labels `J x ...`.

    The network must be in evaluation mode: batch statistics would mix the samples' gradients. The sum over
    samples of Equation 1 then splits, so each row is the gradient of its own sample's loss.
    """
    with torch.no_grad():
        size = decode(points[:1]).numel()
    most = max(1, min(CHUNK, NUMBERS // max(1, size)))
    rows = []
    for chunk, wanted in zip(points.split(most), targets.split(most), strict=True):
        at = chunk.detach().requires_grad_()
        total = loss(network(decode(at)), wanted).sum()
        rows.append(torch.autograd.grad(total, at)[0])
    return torch.cat(rows)


@dataclass(frozen=True)
class Directions:
    """Unit vectors, and how many points had no gradient to follow."""

    vectors: Tensor
    """`J x n`, each of length 1."""
    zero: int
    """Points whose gradient vanished; their direction was drawn at random."""
    not_finite: int
    """Points whose gradient held NaN or infinity; their direction was drawn at random."""


def unit(vectors: Tensor) -> Tensor:
    """Rows divided by their length. Scaled first: squares of a saturated network's gradients underflow."""
    scaled = vectors / vectors.abs().amax(1, keepdim=True)
    return scaled / scaled.norm(dim=1, keepdim=True)


def random_directions(like: Tensor, rng: torch.Generator) -> Tensor:
    """Uniformly random unit vectors, `J x n`, on the device of `like`."""
    return unit(torch.randn(like.shape, generator=rng)).to(like)


def normalised(gradients: Tensor, rng: torch.Generator) -> Directions:
    """d of Equation 2. A point without a usable gradient goes off at random, so that every step has length α."""
    finite = gradients.isfinite().all(1)
    zero = finite & (gradients == 0).all(1)
    usable = (finite & ~zero).unsqueeze(1)
    # Drawn for all points, so that one vanished gradient does not shift the others' random stream.
    fallback = random_directions(gradients, rng)
    vectors = torch.where(usable, unit(torch.where(usable, gradients, 1.0)), fallback)
    return Directions(vectors, int(zero.sum()), int((~finite).sum()))
