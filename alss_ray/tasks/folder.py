"""A folder of images, one sub-folder a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from alss_ray.config import local
from alss_ray.tasks.image_files import ImageFile, find_images
from alss_ray.tasks.images import ImageSet, Sample


@dataclass(frozen=True)
class Folder(ImageSet):
    """Your own images in a tree as torchvision's ImageFolder reads it: DIR/<class>/<anything>.png (JPEG, TIFF, ...).

    Where there is DIR/train it holds the classes, and nothing is read but it and DIR/test. DIR/test/<class>/... is
    the test set; without it a share of the images is held out. Where people label (--oracle), images may lie in no
    class's folder.
    """

    data_dir: Path = local(default=Path("data"))
    """The folder DIR."""

    name: ClassVar[str] = "folder"

    def samples(self) -> Sequence[Sample]:
        folder = self.data_dir.expanduser()
        split = (folder / "train").is_dir()
        found = []
        for file in find_images(folder):
            first, *inner = file.name.split("/")
            test = first == "test" and bool(inner)
            if split and not test and first != "train":
                continue
            inside = inner if split or test else [first, *inner]
            found.append((file, inside[0] if len(inside) > 1 else None, test))
        known = {label for _, label, test in found if not test}
        return [Sample(*one, fault=_fault(*one, known)) for one in found]

    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({s.label for s in self.samples() if s.label is not None and s.fault is None}))


def _fault(file: ImageFile, label: str | None, test: bool, known: set[str | None]) -> str | None:
    """What is wrong with a test image's label; `known` holds the labels of the other images, None among them."""
    if not test or (label is not None and None in known):
        return None
    if label is None:
        return "A test image must stand in the sub-folder of its class."
    return None if label in known else f"Its class {label!r} has no images but for testing."
