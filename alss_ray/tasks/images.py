"""What the tasks on images of the user's own share: reading, classes, the split, and a network by name."""

from __future__ import annotations

import abc
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from alss_ray import rng
from alss_ray.config import UsageError, at_least
from alss_ray.networks import named
from alss_ray.oracles.dataset import DatasetOracle
from alss_ray.tasks.base import Classification, TaskData
from alss_ray.tasks.image_files import Channels, ImageFile, Unusable, read_images, usable, whole
from alss_ray.tasks.people import Annotated

SHOWN = 512  # pixels that the longer side of an image has at most, as people see it
UNKNOWN = -1  # the class index of an image without a label


@dataclass(frozen=True)
class Sample:
    """An image of the user's, and what is known about it before it is decoded."""

    file: ImageFile
    label: str | None
    """The name of its class; None where it has no label."""
    test: bool
    """Whether it belongs to a test set that the user has set apart."""
    fault: str | None = None
    """What is wrong with its label, in a sentence."""


@dataclass(frozen=True)
class LabelledImages:
    """Images that could be read, with their classes."""

    images: Tensor
    """uint8 `m x C x H x W`."""
    targets: Tensor
    """int64 `m`: positions in the names of the classes; UNKNOWN where there is no label."""
    files: tuple[ImageFile, ...]
    test: Tensor
    """bool `m`: those that the user has set apart for testing."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the images are called."""
        return tuple(file.name for file in self.files)


@dataclass(frozen=True)
class ImageTask(Classification, abc.ABC):
    """The options of these tasks. A subclass says where the samples are, and which classes there are."""

    side: int = 32
    """Images are fitted into squares of this many pixels: aspect kept, black borders."""
    channels: Channels = 3
    """3 for colour, 1 for grey."""
    architecture: str = "resnet18"
    """The target network: lenet, vgg16, resnet18, or your own class as package.module:Name, which is called with the
    numbers of channels and of classes."""
    unusable: Unusable = "refuse"
    """Refuse a set with damaged or mislabelled images, or skip those; they are named either way."""

    name: ClassVar[str] = "images"
    defaults: ClassVar[Mapping[str, Any]] = {
        "round_size": 20,
        "label_budget": 200,
        "validation_share": 0.3,
        "iterations": 150,
        "batch_size": 32,
    }

    def __post_init__(self) -> None:
        at_least(self.name, 4, side=self.side)
        named.check(self.architecture, self.side)

    @abc.abstractmethod
    def samples(self) -> Sequence[Sample]:
        """Every image there is, in an order that does not change.

        Raises:
            UsageError: there are none, naming where they were looked for.
        """

    @abc.abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their indices."""

    @abc.abstractmethod
    def load(self) -> TaskData:
        """The data of an experiment (`ImageSet`); images that are only advised on are read by `read`."""

    def read(self) -> LabelledImages:
        """Every image that can be used, labelled or not.

        Raises:
            UsageError: no image, fewer than two classes, or images that cannot be used and are not to be skipped.
        """
        samples, classes = self.samples(), self.class_names()
        if len(classes) < 2:
            raise UsageError(
                f"{self.name}: there must be two classes or more; found {', '.join(classes) or 'none'}."
            )
        files = [sample.file for sample in samples]
        images, faults = read_images(files, self.side, self.channels)
        faults |= {k: sample.fault for k, sample in enumerate(samples) if sample.fault is not None}
        faults = _contradictions(images, samples, faults) | faults
        kept = usable(files, faults, self.unusable)
        index = {name: k for k, name in enumerate(classes)} | {None: UNKNOWN}
        return LabelledImages(
            images[kept],
            torch.tensor([index[samples[k].label] for k in kept]),
            tuple(files[k] for k in kept),
            torch.tensor([samples[k].test for k in kept]),
        )

    def network(self) -> nn.Module:
        return named.build(self.architecture, self.channels, len(_class_names(self)), self.side)


@dataclass(frozen=True)
class ImageSet(Annotated, ImageTask):
    """Images that experiments run on: with a test set, and with labels, but for those that people are asked for."""

    test_share: float = 0.2
    """Share of the labelled images that is held out for testing, always the same, where no test set is set apart."""

    def __post_init__(self) -> None:
        Annotated.__post_init__(self)
        ImageTask.__post_init__(self)
        if not 0 < self.test_share < 1:
            raise UsageError(f"{self.name}: test_share is {self.test_share}; give a number between 0 and 1.")

    def load(self) -> TaskData:
        """The images, split into D and a test set; with stored labels every one of D must have one."""
        read = self.read()
        unlabelled = read.targets == UNKNOWN
        if unlabelled.any() and self.oracle == self.own_oracle:
            raise UsageError(
                f"{int(unlabelled.sum())} of {len(unlabelled)} images have no label (the first is "
                f"{read.names[unlabelled.nonzero()[0]]}); label them, remove them, or name an --oracle that labels."
            )
        if unlabelled.all():
            raise UsageError(
                f"None of the {len(unlabelled)} images has a label, so there is nothing to test on."
            )
        test = read.test if read.test.any() else self._held_out(read.targets)
        kept = (~test).nonzero()[:, 0]
        files = [read.files[k] for k in kept]
        data = TaskData(
            read.images[kept],
            read.images[test],
            read.targets[test],
            DatasetOracle(read.targets[kept]),
            names=tuple(file.name for file in files),
            classes=self.class_names(),
        )
        return self.with_oracle(data, read.targets[kept], functools.partial(_shown, files, self.channels))

    def _held_out(self, targets: Tensor) -> Tensor:
        """bool `m`: one fixed draw among the labelled images, whatever the experiment's seed."""
        labelled = (targets != UNKNOWN).nonzero()[:, 0]
        size = max(1, round(self.test_share * len(labelled)))
        order = torch.randperm(len(labelled), generator=rng.stream(0, "images", "split"))
        return torch.zeros(len(targets), dtype=torch.bool).index_fill(0, labelled[order[:size]], True)


def _shown(files: Sequence[ImageFile], channels: int, index: int) -> np.ndarray:
    """An image as people see it."""
    return whole(files[index].content, SHOWN, channels)


@functools.lru_cache(maxsize=8)
def _class_names(task: ImageTask) -> tuple[str, ...]:
    """Looked up once a process: every member of a committee asks for a network."""
    return task.class_names()


def _contradictions(images: Tensor, samples: Sequence[Sample], faults: Mapping[int, str]) -> dict[int, str]:
    """Position -> reason for images without a pixel's difference that stand in several classes."""
    first: dict[bytes, int] = {}
    found: dict[int, str] = {}
    for k, sample in enumerate(samples):
        if sample.label is None or k in faults:
            continue
        other = first.setdefault(hashlib.sha256(images[k].numpy().tobytes()).digest(), k)
        if samples[other].label != sample.label:
            for one, another in ((k, other), (other, k)):
                found[one] = (
                    f"It is labelled {samples[one].label!r}, but the same image {samples[another].file.name} "
                    f"is labelled {samples[another].label!r}."
                )
    return found
