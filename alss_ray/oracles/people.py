"""People as the oracle: what is laid before them, what comes back, and what an experiment makes of both.

How they are reached (a folder, a labelling tool's server) is for `Annotators` to say. The oracle before them keeps
every label for good, in the cache where bought labels lie, and raises `Waiting` as long as one is missing: waiting is
a state of an experiment, not a process.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from alss_ray.config import Waiting, local
from alss_ray.oracles.base import TEST, VALIDATION, ImageBatch, Labels, Why
from alss_ray.oracles.cache import LabelStore, Verdict, assemble, decode, encode, image_key, oracle_identity


@dataclass(frozen=True)
class Classes:
    """An image's label is one of several classes: its index, int64 without dimensions."""

    names: tuple[str, ...]
    """In the order of their indices."""


@dataclass(frozen=True)
class Maps:
    """An image's label is a number for each of its pixels: float32 `1 x H x W`, or uint8 of 0 and 1 for a mask."""

    shape: tuple[int, int]
    """(H, W)."""
    unit: str = ""
    """Unit of the numbers."""
    mask: bool = False
    """Whether the map tells what belongs to something from what does not."""


Wanted = Classes | Maps


@dataclass(frozen=True)
class Suggestion:
    """An image that people are asked to label."""

    key: str
    """Names its label (`cache.image_key`): 64 hexadecimal digits, the same for the same picture wherever it stands."""
    image: np.ndarray
    """uint8 `C x H x W`."""
    index: int
    """Its position in D, -1 for a synthesised one."""
    name: str
    """What it is called in D; empty where it has no name."""
    asker: str
    """Identity of the experiment that asks."""
    round: int
    """The round t that it is for; VALIDATION or TEST."""
    why: Why


def purpose(round: int) -> str:
    """What images are for, in words."""
    return {VALIDATION: "the validation set", TEST: "the test set"}.get(round, f"round {round}")


@dataclass(frozen=True)
class Returned:
    """What people have given back so far."""

    verdicts: Mapping[str, Verdict]
    """Key -> label, or refusal where the image was skipped, each with its errand."""
    complaints: Sequence[str] = ()
    """One sentence for each thing that cannot be taken, naming its file or task. The rest is taken all the same."""


class Annotators(Protocol):
    """A way to people. An object travels to other processes by pickle, and keeps no secret in its fields."""

    @property
    def where(self) -> str:
        """Where to label, for people: a folder's path or an address."""
        ...

    def ask(self, suggestions: Sequence[Suggestion]) -> None:
        """Lay before people what they were not asked for yet, in this order, the most informative first.

        Several processes may do so at once.
        """
        ...

    def returned(self) -> Returned:
        """Everything that came back, also what was told before."""
        ...


@dataclass(frozen=True)
class PeopleOracle:
    """Asks people. An image is laid before them once, whichever experiments wait for it, and its label serves all.

    Labels are known by the image, by what is `wanted`, by the `question` and the `panel`, whoever gave them.
    """

    wanted: Wanted
    question: str
    """What people are asked about every image."""
    annotators: Annotators = local()
    store: LabelStore = local()
    names: tuple[str, ...] = local(default=())
    """What the images of D are called, where they have names."""
    stored: Tensor | None = local(default=None)
    """int64 `N`: classes of images of D that nobody need be asked for, -1 where there is none; None for none at all."""
    picture: Callable[[int], np.ndarray] | None = local(default=None)
    """Gives the image at a position in D as people are to see it, uint8 `C x H x W`; None for as it stands in D."""
    panel: str = ""
    """How many people label each image, and what becomes of one on which they differ; empty where it is one."""

    explained: ClassVar[bool] = True
    keeps: ClassVar[bool] = True
    version: ClassVar[str] = "1"

    @functools.cached_property
    def identity(self) -> str:
        """Of the oracle in its labels' keys."""
        return oracle_identity(self)

    def label(self, images: ImageBatch) -> Labels:
        """Labels of all images, or none of them yet.

        `bought` counts those that the asking experiment laid before people itself.

        Raises:
            Waiting: some are missing; people are asked for them by now.
            StoreError: labels cannot be kept or looked up.
        """
        stored = self._stored(images)
        keys = {k: image_key(self.identity, image) for k, image in enumerate(images) if k not in stored}
        known, complaints = self._known(list(keys.values()))
        if missing := [k for k, key in keys.items() if key not in known]:
            self._ask(images.take(missing))
            of, what = len(set(keys.values())), f" for {purpose(images.round)}"
            raise self._waiting({keys[k] for k in missing}, of, what, complaints)
        verdicts = [stored[k] if k in stored else known[keys[k]] for k in range(len(images))]
        mine = {
            key for key, verdict in known.items() if verdict.errand and verdict.errand.asker == images.asker
        }
        return assemble(verdicts, len(mine))

    def announce(self, images: ImageBatch) -> None:
        """Lay images before people that will be asked for later, so that they can label them in one go."""
        stored = self._stored(images)
        keys = {k: image_key(self.identity, image) for k, image in enumerate(images) if k not in stored}
        known, _ = self._known(list(keys.values()))
        self._ask(images.take([k for k, key in keys.items() if key not in known]))

    def _stored(self, images: ImageBatch) -> dict[int, Verdict]:
        """Position in the batch -> the label that D has already."""
        if self.stored is None:
            return {}
        labels = {k: self.stored[index] for k, index in enumerate(images.indices.tolist()) if index >= 0}
        return {k: Verdict(label) for k, label in labels.items() if label >= 0}

    def missing(self, keys: Collection[str]) -> Waiting | None:
        """What is missing of these images' labels, as `label` would raise it; None for nothing."""
        known, complaints = self._known(list(keys))
        left = set(keys) - set(known)
        return self._waiting(left, len(keys), "", complaints) if left else None

    def _known(self, keys: Sequence[str]) -> tuple[dict[str, Verdict], Sequence[str]]:
        """Labels that there are, and complaints. Whoever answers is asked only where the cache lacks one."""
        known = {key: verdict for key in keys if (verdict := self._look(key)) is not None}
        if len(known) == len(set(keys)):
            return known, ()
        returned = self.annotators.returned()
        complaints = list(returned.complaints)
        for key, verdict in returned.verdicts.items():
            kept = self._look(key)
            if kept is not None and (_same(kept, verdict) or not _later(verdict, kept)):
                continue
            if kept is not None:
                complaints.append(
                    f"Image {key[:12]} was {self.told(kept)} and is {self.told(verdict)} now: experiments that have "
                    "taken the first answer keep it, those to come get the new one."
                )
            self.store.write(key, encode(key, verdict))
            self._looked_up[key] = verdict
        known |= {key: verdict for key in keys if (verdict := self._look(key)) is not None}
        if len(known) == len(set(keys)):
            for complaint in complaints:
                warnings.warn(complaint, stacklevel=2)
        return known, complaints

    @functools.cached_property
    def _looked_up(self) -> dict[str, Verdict]:
        return {}

    def _look(self, key: str) -> Verdict | None:
        if key not in self._looked_up and (content := self.store.read(key)) is not None:
            verdict = decode(key, content)
            if verdict is not None:
                self._looked_up[key] = verdict
        return self._looked_up.get(key)

    def told(self, verdict: Verdict) -> str:
        """A label in a word or two."""
        if verdict.value is None:
            return verdict.refusal
        return self.wanted.names[int(verdict.value)] if isinstance(self.wanted, Classes) else "another map"

    def _ask(self, images: ImageBatch) -> None:
        if not len(images):
            return
        suggestions = [
            Suggestion(
                key=image_key(self.identity, image),
                image=self.picture(index) if self.picture and index >= 0 else image,
                index=index,
                name=self.names[index] if self.names and index >= 0 else "",
                asker=images.asker,
                round=images.round,
                why=images.why[k] if images.why else Why(),
            )
            for k, (image, index) in enumerate(zip(images, images.indices.tolist(), strict=True))
        ]
        self.annotators.ask(sorted(suggestions, key=_certainty))

    def _waiting(self, missing: Collection[str], of: int, what: str, complaints: Sequence[str]) -> Waiting:
        head = f"Waiting for {len(missing)} of {of} labels{what}: give them in {self.annotators.where}."
        return Waiting("\n".join([head, *complaints]), missing, functools.partial(self.missing, missing))


def _certainty(suggestion: Suggestion) -> tuple[float, float]:
    """What people are told first is what F is least sure of; where there is no telling, what moves F most."""
    margin, norm = suggestion.why.margin, suggestion.why.gradient_norm
    return (math.inf if math.isnan(margin) else margin), (0.0 if math.isnan(norm) else -norm)


def _same(one: Verdict, other: Verdict) -> bool:
    if one.value is None or other.value is None:
        return one.value is other.value and one.refusal == other.refusal
    return one.value.shape == other.value.shape and torch.equal(one.value, other.value)


def _later(one: Verdict, other: Verdict) -> bool:
    return one.errand is not None and other.errand is not None and one.errand.came > other.errand.came
