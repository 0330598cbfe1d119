"""The options of tasks whose labels may come from people instead of from where the task has them itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from alss_ray.config import UsageError, imported, late, local
from alss_ray.oracles import Oracle
from alss_ray.oracles.cache import LabelStore, default_folder
from alss_ray.oracles.folder import FolderAnnotators
from alss_ray.oracles.label_forms import form_of
from alss_ray.oracles.label_studio import URL, LabelStudio
from alss_ray.oracles.people import Annotators, Classes, PeopleOracle, Wanted
from alss_ray.places import Place
from alss_ray.tasks.base import TaskData

PEOPLE = ("folder", "label-studio")
"""Ways to people."""
WAYS = {"inbox": "folder"} | dict.fromkeys(("url", "project", "annotators", "disagreement"), "label-studio")
"""Options that belong to one of them."""


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """Who labels. A task that derives from this passes its data through `with_oracle` at the end of `load`."""

    oracle: str = late("stored")
    """Who labels: stored, for the labels that the data come with; people, by way of a folder or of label-studio; or
    your own oracle as package.module:Name."""
    question: str = late("")
    """What people are asked about every image. Labels are known by it: another question gets labels of its own."""
    inbox: Path | None = local(default=None)
    """Folder in which people find the images (--oracle folder) and leave their labels."""
    url: str = local(default=URL)
    """Where Label Studio is; its access token is read from the environment variable LABEL_STUDIO_API_KEY."""
    project: str | None = local(default=None)
    """Title of the project in Label Studio, which is made unless there is one, or the number of one."""
    annotators: int = late(1)
    """How many people label each image in Label Studio."""
    disagreement: str = late("majority")
    """An image on which they differ gets what more than half of them say (majority), or is refused (refuse)."""
    labels: Place | None = local(default=None)
    """Folder of bought labels, here or on an object store (s3://bucket/path); ~/.cache/alss_ray/labels unless given."""

    own_oracle: ClassVar[str] = "stored"
    """What the task calls its own."""

    def __post_init__(self) -> None:
        if self.oracle not in (self.own_oracle, *PEOPLE) and ":" not in self.oracle:
            raise UsageError(
                f"There is no oracle {self.oracle!r}; it can be {self.own_oracle}, {', '.join(PEOPLE)}, or your own "
                "class as package.module:Name."
            )
        if self.oracle == "folder" and self.inbox is None:
            raise UsageError("--oracle folder needs --inbox, the folder in which people find the images.")
        if self.oracle == "label-studio" and self.project is None:
            raise UsageError("--oracle label-studio needs --project, the title of the project there.")
        for f in dataclasses.fields(Annotated):
            way = WAYS.get(f.name, self.oracle)
            if self.oracle != way and getattr(self, f.name) != f.default:
                raise UsageError(f"--{f.name} belongs to --oracle {way}, and the oracle is {self.oracle}.")
        if self.question and self.oracle not in PEOPLE:
            raise UsageError(f"--question is asked of people, and the oracle is {self.oracle}.")

    @property
    def label_folder(self) -> Place:
        """Where labels are kept."""
        return (self.labels or Place(default_folder())).absolute()

    def with_oracle(
        self,
        data: TaskData,
        stored: Tensor | None = None,
        picture: Callable[[int], np.ndarray] | None = None,
    ) -> TaskData:
        """The data, with the oracle that is asked for in the place of their own.

        Args:
            stored: int64 `N`: classes that people need not be asked for, -1 where there is none.
            picture: gives the image at a position in D as people are to see it, uint8 `C x H x W`.

        Raises:
            UsageError: it cannot be imported.
        """
        if self.oracle == self.own_oracle:
            return data
        classes = data.classes or tuple(map(str, range(int(data.test_targets.max()) + 1)))
        oracle = self.another_oracle(Classes(classes), "Which class is it?", data.names)
        if isinstance(oracle, PeopleOracle):
            oracle = dataclasses.replace(oracle, stored=stored, picture=picture)
        return dataclasses.replace(data, oracle=oracle, label_folder=self.label_folder)

    def another_oracle(self, wanted: Wanted, question: str, names: tuple[str, ...] = ()) -> Oracle:
        """People, or a class of the user's.

        Args:
            question: what people are asked unless --question says so.
            names: what the images of D are called.
        """
        if self.oracle not in PEOPLE:
            own: Oracle = imported("oracle", self.oracle)()
            return own
        question = self.question or question
        people = self._annotators(wanted, question)
        panel = f"{self.annotators}, {self.disagreement}" if self.annotators > 1 else ""
        return PeopleOracle(wanted, question, people, LabelStore(self.label_folder), names, panel=panel)

    def _annotators(self, wanted: Wanted, question: str) -> Annotators:
        if self.oracle == "folder":
            assert self.inbox is not None
            return FolderAnnotators(self.inbox.expanduser().absolute(), wanted, question)
        assert self.project is not None
        return LabelStudio(
            form_of(wanted, question), self.project, self.url, self.annotators, self.disagreement
        )
