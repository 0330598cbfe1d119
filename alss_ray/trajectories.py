"""What Figure 4 of Mo et al. (2020) shows: points that evolve in latent space, and the plane that they are drawn on.

Points evolve where a strategy steps from what it labelled last (`redraw_every` 0). Each round then leaves a row a
point, and the last one leaves the plane: the latent space itself for n = 2, else that of the first two principal
components of E(D), with F's decisions and the loss's gradient over it. Nothing here changes an experiment's results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from alss_ray.config import Experiment, UsageError, component_name
from alss_ray.generators.base import Embedding
from alss_ray.labelled import LabelledSet
from alss_ray.latent import CHUNK, loss_gradient
from alss_ray.neighbours import gaps, nearest
from alss_ray.strategies.base import Query
from alss_ray.tasks.base import TaskData, to_bytes

SIDE = 101  # grid points along either side of the plane
RIM = 0.08  # of the codes' range, added to the plane on every side
MOST_CODES = 4000  # samples of D that are kept for the picture, three quarters of them labelled

Loss = Callable[[Tensor, Tensor], Tensor]
Row = dict[str, Any]


def check(experiment: Experiment, data: TaskData) -> None:
    """Raise UsageError where an experiment has no points that evolve, no plane or no classes."""
    strategy, generator = experiment.strategy, experiment.generator
    if getattr(strategy, "redraw_every", None) != 0 or strategy.makes_images:
        raise UsageError(
            f"--trajectories follows points that evolve among real samples, which those of "
            f"{component_name(strategy)} as it is do not; take --strategy snn --redraw-every 0."
        )
    if generator.latent_dim < 2:
        raise UsageError(
            f"--trajectories draws a plane, but latent_dim is {generator.latent_dim}; give --latent-dim 2 or more."
        )
    if data.test_targets.is_floating_point():
        raise UsageError(
            f"--trajectories shows classes, but the labels of the task {component_name(experiment.task)} are maps; "
            "choose another --task."
        )


@dataclass(frozen=True)
class Plane:
    """A plane in latent space."""

    centre: Tensor
    """float32 `n`."""
    axes: Tensor
    """float32 `2 x n`, orthonormal."""
    shares: Tensor
    """float32 `2`: shares of the codes' variance along the axes."""

    def down(self, points: Tensor) -> Tensor:
        """Points `m x n` projected onto the plane: `m x 2`."""
        return (points - self.centre) @ self.axes.T

    def up(self, places: Tensor) -> Tensor:
        """Places `m x 2` on the plane as points `m x n`."""
        return self.centre + places @ self.axes


def principal_plane(codes: Tensor) -> Plane:
    """The plane of the first two principal components of codes `N x n` through their mean; for n = 2 all of space.

    The largest coordinate of either component is positive, so that the plane does not depend on the machine.
    """
    wide = codes.double()
    covariance = torch.cov(wide.T)
    total = covariance.trace()
    if codes.shape[1] == 2:
        return Plane(torch.zeros(2), torch.eye(2), (covariance.diagonal() / total).float())
    values, vectors = torch.linalg.eigh(covariance)
    axes = vectors.T.flip(0)[:2]
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return Plane(wide.mean(0).float(), (axes * largest.sign()).float(), (values.flip(0)[:2] / total).float())


@dataclass(frozen=True)
class Looks:
    """What F makes of the images at latent points."""

    decoded: Tensor
    """uint8 `m x C x H x W`: G(p)."""
    predicted: Tensor
    """int64 `m`: the class that F gives them."""
    margin: Tensor
    """float32 `m`: the probability of that class less that of the next; 0 on a boundary."""
    loss: Tensor
    """float32 `m`: L(F(G(p)), y) of Equation 1."""


@torch.inference_mode()
def look(network: nn.Module, embedding: Embedding, loss: Loss, points: Tensor, targets: Tensor) -> Looks:
    """F in evaluation mode on G(p), for points `m x n` and classes `m` on the network's device; answers on the CPU."""
    parts = []
    for chunk, wanted in zip(points.split(CHUNK), targets.split(CHUNK), strict=True):
        decoded = embedding.decoder(chunk)
        outputs = network(decoded)
        best = outputs.softmax(1).topk(2)
        margin = best.values[:, 0] - best.values[:, 1]
        parts.append((to_bytes(decoded), best.indices[:, 0], margin, loss(outputs, wanted)))
    return Looks(*(torch.cat(part).cpu() for part in zip(*parts, strict=True)))


def path_rows(
    network: nn.Module,
    embedding: Embedding,
    loss: Loss,
    pool: Tensor,
    labelled: LabelledSet,
    query: Query,
    targets: Tensor,
    t: int,
    count: int,
) -> list[Row]:
    """Rows of the first `count` points that round t labels, and in round 2 of those that they were stepped from.

    Args:
        network: F that stepped them, in evaluation mode: what it makes of them is told before it learns from them.
        pool: uint8 `N x C x H x W`: D, on the device of the network.
        labelled: T(1) to T(t-1).
        query, targets: T(t).

    Raises:
        UsageError: the strategy does not tell where its proposals come from.
    """
    if t == 1:
        return []
    if query.sources is None or query.stepped is None:
        raise UsageError(
            "--trajectories wants a strategy whose queries tell `sources` and `stepped` (strategies/base.py); "
            "this one's do not."
        )
    sources, stepped = query.sources[:count], query.stepped[:count]
    before = labelled.rounds[sources.to(labelled.rounds.device)].cpu()
    first_row = int((labelled.rounds < t - 1).sum())
    gaps = _gaps(embedding.codes, stepped, 1)

    def rows_at(indices: Tensor, classes: Tensor, common: Row) -> list[Row]:
        device = pool.device
        points = embedding.codes[indices]
        seen = look(network, embedding, loss, points.to(device), classes.to(device))
        return [
            {
                **common, "sample": int(index), "label": int(classes[k]), "position": points[k].tolist(),
                "predicted": int(seen.predicted[k]),
                "point_margin": float(seen.margin[k]), "point_loss": float(seen.loss[k]),
                "image_shape": list(pool.shape[1:]),
                "image": pool[index].cpu().numpy().tobytes(), "generated": seen.decoded[k].numpy().tobytes(),
            }
            for k, index in enumerate(indices.tolist())
        ]  # fmt: skip

    size = len(labelled) + len(query.indices)
    rows = rows_at(query.indices[:count], targets[:count], {"t": t, "n_labels": size})
    for k, row in enumerate(rows):
        # A point drawn afresh, in the place of one whose image was refused, begins a path of its own.
        follows = before[k] == t - 1
        row |= {"point": k, "origin": int(sources[k]) - first_row if follows else None}
        row |= {"stepped": stepped[k].tolist(), "gap": float(gaps[k])} if follows else {}
    if t > 2:
        return rows
    starts = labelled.take(sources.unique().to(labelled.rounds.device))
    begun = rows_at(starts.indices.cpu(), starts.targets.cpu(), {"t": 1, "n_labels": len(labelled)})
    return [row | {"point": k} for row, k in zip(begun, sources.unique().tolist(), strict=True)] + rows


def plane_row(
    network: nn.Module,
    embedding: Embedding,
    loss: Loss,
    labelled: LabelledSet,
    validation: LabelledSet,
) -> Row:
    """The plane at the end of an experiment, with F's decisions and the loss over it.

    The label of a place, which its loss needs, is that of the nearest training sample. Classes are told of samples
    whose labels were bought, for training or validation.
    """
    codes, device = embedding.codes, labelled.images.device
    plane = principal_plane(codes)
    flat = plane.down(codes)
    low, high = flat.amin(0), flat.amax(0)
    low, high = low - RIM * (high - low), high + RIM * (high - low)
    across, upward = (torch.linspace(float(low[k]), float(high[k]), SIDE) for k in (0, 1))
    places = torch.cartesian_prod(upward, across).flip(1)  # row after row, from the bottom
    points = plane.up(places)
    known = labelled.points.cpu()
    targets = labelled.targets[torch.from_numpy(nearest(known.numpy(), points.numpy())).to(device)]
    seen = look(network, embedding, loss, points.to(device), targets)
    gradient = loss_gradient(network, embedding.decoder, loss, points.to(device), targets).cpu()
    samples, classes = _kept(labelled, validation, len(codes))
    return {
        "plane_centre": plane.centre.tolist(),
        "plane_axes": plane.axes.flatten().tolist(),
        "plane_shares": plane.shares.tolist(),
        "grid_extent": [float(low[0]), float(high[0]), float(low[1]), float(high[1])],
        "grid_side": SIDE,
        "grid_predicted": _bytes(seen.predicted, "<i4"),
        "grid_margins": _bytes(seen.margin, "<f4"),
        "grid_losses": _bytes(seen.loss, "<f4"),
        "grid_gradients": _bytes(gradient @ plane.axes.T, "<f4"),
        "grid_steepness": _bytes(gradient.norm(dim=1), "<f4"),
        "grid_gaps": _bytes(_gaps(codes, points, 1), "<f4"),
        "kept_codes": _bytes(codes[samples], "<f4"),
        "kept_labels": _bytes(classes, "<i4"),
        "kept_gaps": _bytes(_gaps(codes, codes[samples], 2), "<f4"),
    }


def _kept(labelled: LabelledSet, validation: LabelledSet, size: int) -> tuple[Tensor, Tensor]:
    """Positions in D of samples spread evenly over the labelled and the other ones, and their classes, -1 for none."""
    classes = torch.full((size,), -1, dtype=torch.int64)
    for part in (validation, labelled):
        classes[part.indices.cpu()] = part.targets.cpu()

    def some(mask: Tensor, most: int) -> Tensor:
        rows = mask.nonzero()[:, 0]
        return rows[torch.linspace(0, len(rows) - 1, min(most, len(rows))).round().long()]

    few = some(classes >= 0, MOST_CODES * 3 // 4)
    samples = torch.cat([few, some(classes < 0, MOST_CODES - len(few))])
    return samples, classes[samples]


def _gaps(codes: Tensor, points: Tensor, which: int) -> Tensor:
    """`neighbours.gaps` of tensors."""
    return torch.from_numpy(gaps(codes.numpy(), points.numpy(), which))


def _bytes(values: Tensor, kind: str) -> bytes:
    return values.numpy().astype(kind).tobytes()
