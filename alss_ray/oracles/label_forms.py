"""What a person fills in for an image in Label Studio: a choice among classes, or a painted mask.

A form knows the labelling configuration that it needs, how a model's prediction is laid into it, and how an
annotation is read back. Names in a configuration are fixed, so that a project can be told to fit or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from xml.sax.saxutils import quoteattr

import numpy as np
import torch
from torch import Tensor

from alss_ray.config import UsageError
from alss_ray.oracles.people import Classes, Wanted

CONTROL, IMAGE, REASON = "label", "image", "why"
"""The tag that people fill in, and the columns of a task's data that they see."""
SIDE = 512
"""Pixels that the longer side of an image has at least on the screen."""
KEYS = "123456789qwertyuiopasdfghjklzxcvbnm"
"""Keys of classes whose names are none; numbered from 1, as Label Studio itself does."""

Result = Mapping[str, Any]
"""One entry of an annotation's or a prediction's `result`."""


class Unreadable(ValueError):
    """An annotation that holds no label: the message says why, to stand behind the task's number."""


class Form(Protocol):
    """What is asked of people for one image."""

    @property
    def config(self) -> str:
        """The labelling configuration of a project that asks for this, XML."""
        ...

    @property
    def tag(self) -> str:
        """Type of the control tag, as Label Studio tells it of a project."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the control offers."""
        ...

    def fill(self, value: Tensor) -> list[dict[str, Any]]:
        """A prediction's `result` that shows the label `value`."""
        ...

    def read(self, result: Sequence[Result]) -> Tensor:
        """The label in an annotation's `result`.

        Raises:
            Unreadable: there is none in it, or not of this form.
        """
        ...


@dataclass(frozen=True)
class ChoiceForm:
    """One of several classes; a label is its index, int64 without dimensions."""

    labels: tuple[str, ...]
    """Names of the classes in the order of their indices."""
    question: str
    """What is asked, above every image."""

    tag: ClassVar[str] = "Choices"

    @property
    def config(self) -> str:
        # A class that is a digit or a letter is its own key: typing 7 for a seven.
        keys = [name.lower() for name in self.labels]
        if len(set(keys)) < len(keys) or not all(len(key) == 1 and key in KEYS + "0" for key in keys):
            keys = list(KEYS[: len(self.labels)]) + [""] * (len(self.labels) - len(KEYS))
        choices = "".join(
            f"<Choice value={quoteattr(name)}{f' hotkey={quoteattr(key)}' if key else ''}/>"
            for name, key in zip(self.labels, keys, strict=True)
        )
        return _page(
            self.question,
            f'<Choices name="{CONTROL}" toName="{IMAGE}" choice="single-radio" showInline="true" '
            f'required="true">{choices}</Choices>',
        )

    def fill(self, value: Tensor) -> list[dict[str, Any]]:
        return [_entry("choices", {"choices": [self.labels[int(value)]]})]

    def read(self, result: Sequence[Result]) -> Tensor:
        chosen = [name for entry in result for name in entry.get("value", {}).get("choices", [])]
        if len(chosen) != 1:
            raise Unreadable(
                f"it names {len(chosen)} classes ({', '.join(chosen)})" if chosen else "it is empty"
            )
        if chosen[0] not in self.labels:
            raise Unreadable(f"it names the class {chosen[0]!r}, which is none of {', '.join(self.labels)}")
        return torch.tensor(self.labels.index(chosen[0]))


@dataclass(frozen=True)
class BrushForm:
    """A painted mask; a label is uint8 `1 x H x W`, 1 where at least half of a pixel is painted.

    An annotation in which nothing is painted is a mask, too: what cannot be judged is skipped.
    """

    shape: tuple[int, int]
    """(H, W)."""
    question: str
    """What is asked, above every image."""

    labels: ClassVar[tuple[str, ...]] = ("mask",)
    tag: ClassVar[str] = "BrushLabels"

    @property
    def config(self) -> str:
        return _page(
            self.question,
            f'<BrushLabels name="{CONTROL}" toName="{IMAGE}">'
            f'<Label value={quoteattr(self.labels[0])} background="#d62728"/></BrushLabels>',
        )

    def fill(self, value: Tensor) -> list[dict[str, Any]]:
        from label_studio_sdk.converter.brush import mask2rle

        mask = enlarged(value.numpy() >= 0.5)[0]
        height, width = mask.shape
        painted = {
            "format": "rle",
            "rle": mask2rle(255 * mask.astype(np.uint8)),
            "brushlabels": list(self.labels),
        }
        about = {"original_width": width, "original_height": height, "image_rotation": 0}
        return [about | _entry("brushlabels", painted)] if mask.any() else []

    def read(self, result: Sequence[Result]) -> Tensor:
        from label_studio_sdk.converter.brush import decode_rle

        height, width = self.shape
        factor = enlargement(self.shape)
        painted = np.zeros((height * factor, width * factor), bool)
        for entry in result:
            if entry.get("value", {}).get("format") != "rle":
                raise Unreadable(f"it holds a region of type {entry.get('type')!r}; the brush alone is read")
            seen = entry.get("original_height"), entry.get("original_width")
            if seen != painted.shape or entry.get("image_rotation"):
                raise Unreadable(
                    f"it was painted on {seen[1]} x {seen[0]} pixels, rotated by "
                    f"{entry.get('image_rotation') or 0:g}°; {width * factor} x {height * factor} upright are wanted"
                )
            # Red, green, blue and the opacity of the brush, whose edge is soft.
            painted |= decode_rle(entry["value"]["rle"]).reshape(*painted.shape, 4)[..., 3] > 127
        share = painted.reshape(height, factor, width, factor).mean((1, 3))
        return torch.from_numpy((share >= 0.5).astype(np.uint8))[None]


def form_of(wanted: Wanted, question: str) -> Form:
    """The form in which people give such labels.

    Raises:
        UsageError: Label Studio has none for it.
    """
    if isinstance(wanted, Classes):
        return ChoiceForm(wanted.names, question)
    if not wanted.mask:
        raise UsageError(
            f"Nobody can paint numbers{f' in {wanted.unit}' if wanted.unit else ''} in Label Studio, which has "
            "classes and masks; take --oracle folder."
        )
    return BrushForm(wanted.shape, question)


def enlargement(shape: Sequence[int]) -> int:
    """How many times an image `H x W` is repeated along both sides, so that a person can see it."""
    return -(-SIDE // max(shape)) if max(shape) < SIDE else 1


def enlarged(image: np.ndarray) -> np.ndarray:
    """An image `C x H x W`, large enough to be seen."""
    factor = enlargement(image.shape[1:])
    return image.repeat(factor, 1).repeat(factor, 2)


def _page(question: str, control: str) -> str:
    """The control above the image: below it, it would be off the screen."""
    return (
        f'<View><Header value={quoteattr(question)} size="4"/><Header value="${REASON}" size="6"/>{control}'
        f'<Image name="{IMAGE}" value="${IMAGE}" zoom="true" zoomControl="true" '
        'brightnessControl="true" contrastControl="true" maxWidth="512px"/></View>'
    )


def _entry(kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "model", "from_name": CONTROL, "to_name": IMAGE, "type": kind, "value": dict(value)}
