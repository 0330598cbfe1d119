"""Judging a generator before it is trusted with labels: figures and pictures that go into the records.

What the paper's discussion of the latent dimension names: whether images are plausible and diverse, and whether real
samples lie so thinly that a step finds none nearby. Of labels, only those are used that were bought.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alss_ray import rng
from alss_ray.generators.base import Embedding
from alss_ray.labelled import LabelledSet
from alss_ray.latent import loss_gradient, normalised, random_directions
from alss_ray.neighbours import gaps, search
from alss_ray.tasks.base import Task, in_parts, to_bytes, to_unit

MOST = 1000  # samples that a figure is computed from, evenly spread
NEAR = 5  # neighbours whose class is looked at
RARE = 0.99  # of the samples of D have another one within the distance that counts as inside the data
SAME = 1 - 1e-4  # times a step's length: a code so far away may be that of the sample where it began
SHOWN = 7  # images in a row of the picture
WALKS = 3

Row = dict[str, Any]


@torch.inference_mode()
def judged(
    embedding: Embedding,
    network: nn.Module,
    task: Task,
    labelled: LabelledSet,
    validation: LabelledSet,
    pool: Tensor,
    test_images: Tensor,
    alpha: float,
) -> Row:
    """The columns of the records of kind 'generators' (alss_ray/records.py).

    Args:
        network: F, on the device of the samples.
        labelled, validation: the labels that were bought; steps start at the labelled samples.
        pool: uint8 `N x C x H x W`: D, whose mean image a reconstruction must be better than.
        test_images: uint8 `M x C x H x W`, which the generator has not seen.
        alpha: length of the steps.
    """
    network.eval()
    images = to_unit(_some(test_images))
    rebuilt = _each(lambda part: embedding.decoder(embedding.encoder(part)), images)
    mean_image = pool.sum(0, dtype=torch.int64) / (255.0 * len(pool))
    seen, seen_rebuilt = _each(network, images), _each(network, rebuilt)
    classes = not labelled.targets.is_floating_point()
    return {
        "reconstruction_rmse": _rmse(rebuilt, images),
        "mean_image_rmse": _rmse(mean_image, images),
        "decoded_agreement": task.score(seen_rebuilt, seen.argmax(1) if classes else seen).mean().item(),
        **gaussianity(embedding.codes),
        **(nearness(embedding.codes[validation.indices.cpu()], validation.targets.cpu()) if classes else {}),
        **_steps(embedding, network, task, labelled, alpha),
    }


def gaussianity(codes: Tensor) -> Row:
    """How far codes `N x n` are from N(0, I): mean, covariance, and the energy distance (Székely and Rizzo 2005)."""
    wide = codes.double()
    mean, covariance = wide.mean(0), torch.cov(wide.T).reshape(codes.shape[1], -1)
    deviations = torch.linalg.eigvalsh(covariance).clamp(min=0).sqrt()
    some = _some(wide).numpy()
    between = 2 * float(_distance_to_normal(some).mean())
    square = between - _mean_distance(some) - _distance_within_normal(some.shape[1])
    return {
        "code_mean": mean.tolist(),
        "code_covariance": covariance.flatten().tolist(),
        "code_mean_length": mean.norm().item(),
        "code_sd_least": deviations[0].item(),
        "code_sd_most": deviations[-1].item(),
        "energy_distance": math.sqrt(max(square, 0.0)),
        "energy_coefficient": max(square, 0.0) / between,
    }


def _distance_to_normal(points: np.ndarray) -> np.ndarray:
    """E|x - Y| for each row x of `m x n` and Y from N(0, I), in closed form."""
    from scipy.special import hyp1f1  # takes a second to import

    n = points.shape[1]
    return _distance_within_normal(n) / math.sqrt(2) * hyp1f1(-0.5, n / 2, -(points**2).sum(1) / 2)


def _distance_within_normal(n: int) -> float:
    """E|Y - Y'| for independent Y and Y' from N(0, I)."""
    return 2 * math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2))


def _mean_distance(points: np.ndarray) -> float:
    """Mean distance of two different rows of `m x n`."""
    from scipy.spatial.distance import pdist

    return float(pdist(points).mean())


def nearness(codes: Tensor, targets: Tensor) -> Row:
    """How often the nearest of the other samples are of a sample's class, for codes `m x n` and classes `m`."""
    count = min(NEAR, len(codes) - 1)
    if count < 1:
        return {}
    found = torch.from_numpy(search(codes.numpy(), codes.numpy(), count + 1))
    # Where several samples have one code, a sample need not come first among its neighbours.
    itself = found == torch.arange(len(codes)).unsqueeze(1)
    itself[~itself.any(1), -1] = True
    others = found[~itself].view(len(codes), count)
    sizes = targets.bincount().double()
    return {
        "near_count": count,
        "near_same_class": (targets[others] == targets.unsqueeze(1)).double().mean().item(),
        "near_by_chance": (sizes * (sizes - 1)).sum().item() / (len(codes) * (len(codes) - 1)),
    }


def _steps(embedding: Embedding, network: nn.Module, task: Task, labelled: LabelledSet, alpha: float) -> Row:
    """How often steps of length α from labelled samples leave the data, or reach no other sample."""
    if alpha <= 0:
        return {}
    codes = embedding.codes.numpy()
    points, targets = _some(labelled.points), _some(labelled.targets)
    chance = rng.stream(0, "judge")
    with torch.inference_mode(False), torch.enable_grad():
        # Tensors of inference mode carry no gradients; copies made outside of it do.
        gradients = loss_gradient(network, embedding.decoder, task.loss, points.clone(), targets.clone())
    directions = {
        "gradient": normalised(gradients.cpu(), chance).vectors,
        "random": random_directions(gradients.cpu(), chance),
    }
    typical = gaps(codes, _some(embedding.codes).numpy(), 2)
    limit = np.quantile(typical, RARE)
    row: Row = {"step_length": alpha, "typical_gap": float(np.median(typical))}
    for name, direction in directions.items():
        away = gaps(codes, (points.cpu() + alpha * direction).numpy())
        row |= {
            f"{name}_gap": float(np.median(away)),
            f"{name}_left_share": float((away > limit).mean()),
            f"{name}_stuck_share": float((away > SAME * alpha).mean()),
        }
    return row


@torch.inference_mode()
def pictures(embedding: Embedding, test_images: Tensor) -> Row:
    """The columns of kind 'pictures': a few of the test images (uint8 `M x C x H x W`) and their reconstructions,
    straight walks from one to another, and images of fresh z."""
    rows = torch.linspace(0, len(test_images) - 1, SHOWN).long().to(test_images.device)
    images = to_unit(test_images[rows])
    codes = embedding.encoder(images)
    ends = codes[: 2 * WALKS].view(-1, 2, codes.shape[1])
    along = torch.linspace(0, 1, SHOWN, device=codes.device).view(1, -1, 1)
    walks = (ends[:, :1] + along * (ends[:, 1:] - ends[:, :1])).flatten(0, 1)
    fresh = torch.randn(SHOWN, codes.shape[1], generator=rng.stream(0, "judge", "fresh")).to(codes)

    def pixels(shown: Tensor) -> bytes:
        return to_bytes(shown).cpu().numpy().tobytes()

    return {
        "image_shape": list(images.shape[1:]),
        "shown": SHOWN,
        "originals": pixels(images),
        "rebuilt": pixels(embedding.decoder(codes)),
        "walks": pixels(embedding.decoder(walks)),
        "fresh": pixels(embedding.decoder(fresh)),
    }


def _each(module: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """What a module makes of images, in parts that it has memory for."""
    return torch.cat([module(part) for part in in_parts(images, MOST)])


def _some(rows: Tensor) -> Tensor:
    """At most MOST rows, evenly spread."""
    if len(rows) <= MOST:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, MOST).round().long().to(rows.device)]


def _rmse(guess: Tensor, images: Tensor) -> float:
    return (guess - images).square().mean().sqrt().item()
