"""A folder of images, some of which a table gives classes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from alss_ray.config import UsageError, local
from alss_ray.oracles.batch import SKIP, read_table
from alss_ray.oracles.dataset import DatasetOracle
from alss_ray.tasks.base import TaskData
from alss_ray.tasks.image_files import find_images
from alss_ray.tasks.images import ImageTask, Sample


@dataclass(frozen=True)
class Annotations(ImageTask):
    """Images that are still to be labelled, and what is known of them."""

    images: Path = local(default=Path("images"))
    """Folder of the images (PNG, JPEG, TIFF, ...), in sub-folders or not."""
    labels: Path | None = local(default=None)
    """CSV file with the columns image (a file's path below --images, or its name alone) and label (its class)."""
    classes: str | None = None
    """Names of the classes, separated by commas; those that --labels names unless given."""

    name: ClassVar[str] = "annotations"
    defaults: ClassVar[Mapping[str, Any]] = {
        "strategy": "latent_margin",  # the first of the leagues on digits and MNIST
        "iterations": 400,  # from scratch, in one go
        "batch_size": 32,
    }

    def load(self) -> TaskData:
        """All images as D, with the labels that there are (UNKNOWN for none), and no test set."""
        read = self.read()
        images, targets = read.images, read.targets
        return TaskData(images, images[:0], targets[:0], DatasetOracle(targets), names=read.names)

    def samples(self) -> Sequence[Sample]:
        files = find_images(self.images.expanduser())
        known = self._known([file.name for file in files])
        return [Sample(file, known.get(file.name), False) for file in files]

    def class_names(self) -> tuple[str, ...]:
        if self.classes is not None:
            return tuple(dict.fromkeys(name.strip() for name in self.classes.split(",") if name.strip()))
        if self.labels is None:
            raise UsageError(
                "Nothing says which classes there are; give --classes cat,dog or a --labels file."
            )
        return tuple(sorted({label for _, label in self._rows() if label != SKIP}))

    def _known(self, names: Sequence[str]) -> Mapping[str, str]:
        """File -> class, as the table says."""
        places = {name: name for name in names}
        short: dict[str, list[str]] = {}
        for name in names:
            short.setdefault(name.rpartition("/")[2], []).append(name)
        classes, known = self.class_names(), dict[str, str]()
        for image, label in self._rows():
            found = [places[image]] if image in places else short.get(image, [])
            if len(found) != 1:
                what = f"is the name of {len(found)} files" if found else "is no file"
                raise UsageError(
                    f"{self.labels} names {image!r}, which {what} in {self.images}; mend that row."
                )
            if label not in (*classes, SKIP):
                raise UsageError(
                    f"{self.labels} calls {image!r} {label!r}; the classes are {', '.join(classes)}."
                )
            if known.setdefault(found[0], label) != label:
                raise UsageError(
                    f"{self.labels} calls {image!r} {known[found[0]]!r} and {label!r}; leave one."
                )
        return {name: label for name, label in known.items() if label != SKIP}

    def _rows(self) -> list[tuple[str, str]]:
        """Image and label of each row that has a label."""
        if self.labels is None:
            return []
        path = self.labels.expanduser()
        if not path.is_file():
            raise UsageError(f"There is no file {path}; give a CSV file with the columns image and label.")
        return [(image, label) for image, label in read_table(path) if label]
