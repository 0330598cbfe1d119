"""Conformance checks for components, shipped so that users run them on their own.

    from alss_ray.testing import check_strategy
    def test_mine():
        check_strategy(Mine(), Digits())

Each raises AssertionError with a sentence on what the contract asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from alss_ray import rng
from alss_ray.catalogue import experiment_from
from alss_ray.checkpoint import Tensors
from alss_ray.config import Experiment, flatten
from alss_ray.generators.base import Embedding, NoSnapshots, Snapshots
from alss_ray.generators.vae import Vae
from alss_ray.labelled import LabelledSet
from alss_ray.oracles.base import ImageBatch, Oracle
from alss_ray.strategies.base import Query, View
from alss_ray.tasks.base import to_unit

LABELLED, VALIDATION, COUNT = 40, 30, 12
"""Sizes of the situation in which a strategy is asked."""


def check_strategy(strategy: Any, task: Any, *, distinct: bool = True) -> None:
    """A strategy asks for the right number of free samples, by its stream alone, and touches nothing.

    Args:
        task: where it is asked; its labels are replaced by the oracle's for what is labelled, and hidden else.
        distinct: whether a round must be made of distinct, unlabelled samples.
    """
    view = situation(task, embedded=strategy.needs_embedding, committee=strategy.committee)
    before = _snapshot(view)
    for count in (COUNT, 5):  # a full round and a last incomplete one
        torch.manual_seed(0)
        unmoved = torch.get_rng_state()
        query = strategy.propose(view, count, rng.stream(1, "proposal", view.t, 0))
        assert torch.equal(torch.get_rng_state(), unmoved), (
            "all chance must come from the stream that is given"
        )
        again = strategy.propose(view, count, rng.stream(1, "proposal", view.t, 0))
        assert torch.equal(query.indices, again.indices), "the same stream must give the same proposals"
        _check_query(query, view, count, distinct)
    assert not view.network.training, "the network must be left in evaluation mode"
    for name, value in _snapshot(view).items():
        assert torch.equal(value, before[name]), f"the view must not be changed, but {name} was"
    options = {"task": task, "strategy": strategy, "generator": Vae() if strategy.needs_embedding else None}
    described = Experiment(**options)
    assert experiment_from(flatten(described, identity_only=False)).identity == described.identity, (
        "the options must survive being written down"
    )


def _check_query(query: Query, view: View, count: int, distinct: bool) -> None:
    indices = query.indices
    assert indices.dtype == torch.int64, "indices must be int64"
    assert indices.device.type == "cpu", "indices must lie on the CPU"
    assert len(indices) == count, f"{count} samples were asked for, {len(indices)} proposed"
    real = indices[indices >= 0]
    assert not view.barred[real].any(), "validation samples and refused ones must not be asked for"
    if distinct:
        assert len(real.unique()) == len(real), "a round must be made of distinct samples"
        assert view.free[real].all(), "labelled samples must not be asked for again"
    if query.images is None:
        assert len(real) == count, "a synthesised sample (index -1) must bring its image"
    else:
        assert query.images.dtype == torch.uint8, "images must be uint8"
        assert query.images.shape == (count, *view.images.shape[1:]), "there must be one image a proposal"


def situation(task: Any, embedded: bool = True, committee: int = 1) -> View:
    """A small round to ask a strategy in: untrained networks, some labelled and some barred samples."""
    data = task.load()
    order = torch.randperm(len(data.images), generator=rng.stream(0, "situation"))
    rows, validation = order[:LABELLED], order[LABELLED : LABELLED + VALIDATION]
    free = torch.ones(len(order), dtype=torch.bool)
    barred = ~free
    free[order[: LABELLED + VALIDATION]] = False
    barred[validation] = True
    targets = data.oracle.label(ImageBatch(data.images[rows], rows)).values
    with rng.scope(0, "situation"):
        members = [task.network().eval() for _ in range(committee)]
        encoder, decoder = Vae().modules(data.image_shape)
    embedding = Embedding.of(encoder, decoder, data.images, torch.device("cpu")) if embedded else None
    labelled = LabelledSet.empty(data.images)
    for t, part in enumerate(torch.arange(LABELLED).chunk(2), 1):
        points = embedding.codes[rows[part]] if embedding else None
        at = rows[part]
        labelled = labelled.append(data.images[at], targets[part], at, t, made=False, points=points)
    return View(3, members[0], data.images, free, barred, labelled, task.loss, embedding, members=members)


def _snapshot(view: View) -> dict[str, Tensor]:
    tensors = {"images": view.images, "free": view.free, "barred": view.barred, **view.labelled.pack()}
    tensors |= dict(view.network.state_dict())
    if view.embedding is not None:
        tensors["codes"] = view.embedding.codes
    return {name: value.clone() for name, value in tensors.items()}


def check_task(task: Any) -> None:
    """A task's data, network, loss and score fit together, and loading it twice gives the same."""
    data = task.load()
    assert data.fingerprint() == task.load().fingerprint(), "loading twice must give the same data"
    for images in (data.images, data.test_images):
        assert images.dtype == torch.uint8, "images must be uint8"
        assert images.dim() == 4, "images must be N x C x H x W"
    assert len(data.test_images) == len(data.test_targets), "there must be one target a test image"
    few, targets = to_unit(data.test_images[:7]), data.test_targets[:7]
    with rng.scope(0, "check"):
        first = task.network()
    with rng.scope(0, "check"):
        second = task.network()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other), "the network must be initialised from torch's global stream alone"
    outputs = first.eval()(few)
    for name in ("loss", "score"):
        values = getattr(task, name)(outputs, targets)
        assert values.shape == (7,), (
            f"the {name} must have one value a sample, not shape {tuple(values.shape)}"
        )
        assert values.isfinite().all(), f"the {name} must be finite"
    assert isinstance(task.guess(data.test_images, data.test_targets), float), "the guess must be a float"
    extra = task.extra_scores(outputs, targets)
    assert set(extra) == set(task.extras), "the extra scores must be those that `extras` names"
    assert all(values.shape == (7,) for values in extra.values()), "extra scores must have one value a sample"
    check_oracle(data.oracle, ImageBatch(data.images[:5], torch.arange(5)))


def check_oracle(oracle: Oracle, images: ImageBatch) -> None:
    """An oracle answers for every image, with a label or a refusal, and answers the same again."""
    first, second = oracle.label(images), oracle.label(images)
    assert len(first.values) == len(images), "there must be one row of values an image, refused ones included"
    assert set(first.refusals) <= set(range(len(images))), "refusals are keyed by the position in the batch"
    assert dict(first.refusals) == dict(second.refusals), "an image must be refused always or never"
    kept = [k for k in range(len(images)) if k not in first.refusals]
    assert torch.equal(first.values[kept], second.values[kept]), "an image must get the same label again"


class _Kept:
    """Keeps every snapshot that is offered."""

    def __init__(self) -> None:
        self.tensors: Tensors | None = None

    def load(self) -> Tensors | None:
        return self.tensors

    def offer(self, state: Callable[[], Tensors]) -> None:
        self.tensors = {name: value.clone() for name, value in state().items()}


def check_generator(generator: Any, images: Tensor) -> None:
    """A generator trains reproducibly on uint8 images `N x C x H x W`, encodes them, and decodes with a gradient."""
    device = torch.device("cpu")
    kept = _Kept()

    def trained(snapshots: Snapshots) -> Embedding:
        encoder, decoder = generator.train(images, device, lambda done, total: None, snapshots)
        return Embedding.of(encoder, decoder, images, device)

    # The third training goes on from the last snapshot of the first one, if it offered any.
    embeddings = [trained(snapshots) for snapshots in (kept, NoSnapshots(), kept)]
    codes = embeddings[0].codes
    assert codes.shape == (len(images), generator.latent_dim), "E must give one point of n numbers an image"
    assert torch.equal(codes, embeddings[1].codes), "the same seed must give the same codes on the CPU"
    assert torch.equal(codes, embeddings[2].codes), "a training that goes on must come to the same codes"
    point = codes[:3].clone().requires_grad_()
    decoded = embeddings[0].decoder(point)
    assert decoded.shape == (3, *images.shape[1:]), "G must give an image a point"
    assert 0 <= decoded.min() <= decoded.max() <= 1, "G's images must lie in [0, 1]"
    assert torch.autograd.grad(decoded.sum(), point)[0].abs().sum() > 0, "G must pass gradients to its points"
