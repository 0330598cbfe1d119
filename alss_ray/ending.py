"""What is written down of an experiment's network and latent space at its end, beside the scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from alss_ray import trajectories
from alss_ray.config import Experiment
from alss_ray.generators.base import Embedding
from alss_ray.generators.judge import judged, pictures
from alss_ray.labelled import LabelledSet
from alss_ray.samples import sample_rows

Row = dict[str, Any]


def last_records(
    experiment: Experiment,
    network: nn.Module,
    embedding: Embedding | None,
    generator_key: str | None,
    labelled: LabelledSet,
    validation: LabelledSet,
    images: Tensor,
    test: tuple[Tensor, Tensor],
    followed: bool,
) -> Iterator[tuple[str, list[Row]]]:
    """Kinds of records with their rows, which lack the columns that all of the experiment's have.

    Args:
        network: F in evaluation mode.
        images: uint8 `N x C x H x W`: D, on the device of F.
        test: the test images and their targets.
        followed: whether points leave their paths, so that the plane is wanted on which these are drawn.
    """
    task = experiment.task
    if task.map_unit is not None:
        yield "samples", sample_rows(network, *test, *task.map_unit)
    if embedding is None:
        return
    if followed:
        yield "planes", [trajectories.plane_row(network, embedding, task.loss, labelled, validation)]
    key, alpha = {"generator_key": generator_key}, getattr(experiment.strategy, "alpha", 0.0)
    found = judged(embedding, network, task, labelled, validation, images, test[0], alpha)
    yield "generators", [key | found]
    yield "pictures", [key | pictures(embedding, test[0])]
