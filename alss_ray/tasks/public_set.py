"""What the tasks on published data sets share: a folder as torchvision lays it out, and its download."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from alss_ray.config import UsageError, local
from alss_ray.tasks.base import Classification
from alss_ray.tasks.people import Annotated

Read = TypeVar("Read")


@dataclass(frozen=True)
class PublicSet(Annotated, Classification):
    """The options of these tasks."""

    data_dir: Path = local(default=Path("data"))
    """Folder that holds the data set, as torchvision lays it out."""
    download: bool = local(default=False)
    """Let torchvision fetch the files that are missing."""

    name: ClassVar[str] = "public_set"
    title: ClassVar[str]
    """What messages call the data set."""
    defaults: ClassVar[Mapping[str, Any]] = {
        "round_size": 500,
        "label_budget": 5000,
        "validation_share": 0.2,
        "iterations": 150,
        "evaluate_every": 50,
        "generator_iterations": 10_000,
    }

    def reading(self, folder: Path, files: Iterable[str], read: Callable[[bool], Read]) -> Read:
        """What `read` gives, which is told whether to fetch files.

        Raises:
            UsageError: files are missing and not to be fetched, or cannot be read.
        """
        missing = [name for name in files if not (folder / name).exists()]
        if missing and not self.download:
            raise UsageError(
                f"{self.title} is not in {self.data_dir}: looked for {', '.join(missing)} in {folder}; "
                "give the folder with --data-dir, or add --download to let torchvision fetch them."
            )
        try:
            return read(bool(missing))
        except (RuntimeError, ValueError, AssertionError, OSError) as error:
            raise UsageError(
                f"{self.title} in {folder} cannot be read ({error}); remove its files and fetch them again with "
                "--download."
            ) from error
