"""People who label in Label Studio: images go there as tasks of one project, annotations come back from it.

An image travels inside its task, as a PNG in a `data:` address. So it needs no file server, no storage that Label
Studio must be told of and no second upload that a crash could leave behind, and an export of the project is whole.
Such tasks are large, but nothing here reads them back: the listing leaves `data` out. A task is found again by the
image's key, which stands in its `meta` for that reason, where annotators do not see it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from torch import Tensor

from alss_ray.config import UsageError, at_least
from alss_ray.files import locked
from alss_ray.oracles.ballot import RULES, decide
from alss_ray.oracles.base import Errand
from alss_ray.oracles.cache import Verdict, default_folder
from alss_ray.oracles.contact_sheet import data_uri, picture
from alss_ray.oracles.label_forms import CONTROL, IMAGE, REASON, Form, Unreadable, enlarged
from alss_ray.oracles.people import Returned, Suggestion, purpose
from alss_ray.oracles.studio_client import TOKEN, connected, loopback

URL = "http://127.0.0.1:8080"
MODEL = "alss_ray"
"""The version under which predictions stand. One for all rounds: annotators are shown those of one version only."""
CHUNK = 16 * 2**20
"""Characters in one import; Label Studio takes 250 MB, a proxy before it may take less."""
IMPORT_PATIENCE = 600
"""Seconds to wait for an import."""
PAGE = 500
"""Tasks in one page of a listing."""
ANSWERS = "id,meta,created_at,annotations,result,was_cancelled,completed_by,updated_at,lead_time"
"""Fields of a task and of its annotations that are read back."""
ANSWERED = {
    "conjunction": "or",
    "items": [
        {"filter": f"filter:tasks:{column}_annotations", "operator": "greater", "type": "Number", "value": 0}
        for column in ("total", "cancelled")
    ],
}


@dataclass(frozen=True)
class LabelStudio:
    """People who label in a project of a Label Studio server. The project is made where there is none of its title."""

    form: Form
    """What they fill in."""
    project: str
    """The project's title, or the number that stands in its address."""
    url: str = URL
    """Where the server is."""
    annotators: int = 1
    """How many people label each image."""
    disagreement: str = "majority"
    """What becomes of an image on which they differ: a rule of ballot.py."""

    def __post_init__(self) -> None:
        at_least("label-studio", 1, annotators=self.annotators)
        if self.disagreement not in RULES:
            raise UsageError(f"--disagreement is {self.disagreement!r}; give {' or '.join(RULES)}.")
        address = urlsplit(self.url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise UsageError(
                f"--url is {self.url!r}; give the address of Label Studio's start page, like {URL}."
            )
        if address.username or address.password:
            raise UsageError(
                f"--url holds a name or a password, and is written down; the token in {TOKEN} is enough."
            )
        if address.scheme == "http" and not loopback(self.url):
            warnings.warn(f"The token travels to {self.url} in the clear; https hides it.", stacklevel=2)

    @property
    def where(self) -> str:
        """The address of the project's tasks. The first call opens the project.

        Raises:
            UsageError: the token is missing or not accepted, the server is away, or the project is none for this.
        """
        return f"{self.url.rstrip('/')}/projects/{self.number}/data"

    def ask(self, suggestions: Sequence[Suggestion]) -> None:
        """Make a task of every image that has none yet, in this order, which is the one that annotators see.

        Raises:
            UsageError: the server is away or refuses them. What it took in stays, and is not asked for again.
        """
        number = self.number
        with self._alone(), connected(self.url, "take in tasks") as client:
            known = {task.meta["key"] for task in _tasks(client, number, "id,meta")}
            new = {s.key: s for s in suggestions if s.key not in known}
            for part in _parts(map(self._task, new.values())):
                # A second try by the SDK could make the tasks again.
                once: Any = {"max_retries": 0, "timeout_in_seconds": IMPORT_PATIENCE}
                client.projects.import_tasks(number, request=part, request_options=once)

    def returned(self) -> Returned:
        """What people have said so far, in the newest form of each annotation.

        Raises:
            UsageError: the server is away.
        """
        number = self.number
        with connected(self.url, "list annotations") as client:
            tasks = _tasks(client, number, ANSWERS, ANSWERED)
        said: dict[str, list[Any]] = {}
        for task in tasks:
            said.setdefault(task.meta["key"], []).append(task)
        verdicts, complaints = {}, []
        for key, same in said.items():
            verdict, faults = self._counted(same)
            complaints += faults
            if verdict is not None:
                verdicts[key] = verdict
        return Returned(verdicts, complaints)

    def _task(self, suggestion: Suggestion) -> dict[str, Any]:
        """A task as the server takes it in."""
        why = suggestion.why
        numbers = {"gradient_norm": why.gradient_norm, "margin": why.margin}
        data = {
            IMAGE: data_uri(picture(enlarged(suggestion.image))),
            REASON: _reason(suggestion, self.form.labels),
            "round": suggestion.round,
            **({"name": suggestion.name} if suggestion.name else {}),
            **{name: float(f"{number:.3g}") for name, number in numbers.items() if not math.isnan(number)},
        }
        task = {"data": data, "meta": {"key": suggestion.key, "asker": suggestion.asker}}
        if why.predicted is not None and (result := self.form.fill(why.predicted)):
            task["predictions"] = [{"model_version": MODEL, "result": result, "score": data.get("margin")}]
        return task

    def _counted(self, tasks: Sequence[Any]) -> tuple[Verdict | None, list[str]]:
        """What the annotators of an image say together, None while one is missing, and what cannot be read.

        The image has several tasks where two machines asked for it at the same moment. Of an annotator's answers the
        newest counts.
        """
        given = sorted((a for task in tasks for a in task.annotations), key=lambda a: a["updated_at"])
        newest = {annotation["completed_by"]: annotation for annotation in given}
        answers: list[Tensor | None] = []
        complaints = []
        for annotation in newest.values():
            try:
                answers.append(None if annotation["was_cancelled"] else self.form.read(annotation["result"]))
            except Unreadable as fault:
                told = (
                    f"{self.where}: annotation {annotation['id']} is left out, for {fault}; update it there."
                )
                complaints.append(told)
        if len(answers) < self.annotators:
            return None, complaints
        outcome = decide(answers, self.disagreement, self.form.labels.__getitem__)
        first = tasks[0]
        errand = Errand(
            asker=first.meta["asker"],
            asked=first.created_at.timestamp(),
            came=max(_seconds(annotation["updated_at"]) for annotation in given),
            seconds=sum(annotation["lead_time"] or math.nan for annotation in newest.values()),
            votes=outcome.votes,
        )
        return Verdict(outcome.label, outcome.refusal, errand), complaints

    # --- the project -------------------------------------------------------------------------------------

    @cached_property
    def number(self) -> int:
        """The project's number, on the server."""
        with self._alone(), connected(self.url, "open a project") as client:
            return self._found(client) or self._made(client)

    def _found(self, client: Any) -> int | None:
        """The number of the project, None where it has yet to be made."""
        if self.project.isdecimal():
            numbered = [p for p in client.projects.list(ids=self.project) if p.id == int(self.project)]
            if not numbered:
                raise UsageError(
                    f"Label Studio at {self.url} has no project {self.project}; look its number up in the project's "
                    "address, or give --project a title to have one made."
                )
            project = numbered[0]
        else:
            named = [p for p in client.projects.list(title=self.project) if p.title == self.project]
            if len(named) > 1:
                raise UsageError(
                    f"Label Studio at {self.url} has {len(named)} projects called {self.project!r}; give --project the "
                    f"number of one of them: {', '.join(str(p.id) for p in named)}."
                )
            if not named:
                return None
            project = named[0]
        self._check(project)
        return project.id

    def _check(self, project: Any) -> None:
        """Refuse a project that asks for something else."""
        control = (project.parsed_label_config or {}).get(CONTROL, {})
        asked = (control.get("type"), control.get("to_name"), sorted(control.get("labels", [])))
        if asked != (self.form.tag, [IMAGE], sorted(self.form.labels)):
            raise UsageError(
                f"The project {project.title!r} at {self.url} has another labelling configuration: "
                f"<{self.form.tag} name={CONTROL!r} toName={IMAGE!r}> with {', '.join(self.form.labels)} is wanted; "
                "give --project the title of a new one."
            )
        if project.maximum_annotations != self.annotators:
            raise UsageError(
                f"The project {project.title!r} at {self.url} wants {project.maximum_annotations} annotations of an "
                f"image, and --annotators is {self.annotators}; change one of them."
            )

    def _made(self, client: Any) -> int:
        if not 3 <= len(self.project) <= 50:
            raise UsageError(
                f"--project is {self.project!r}; Label Studio wants a title of 3 to 50 characters."
            )
        return client.projects.create(
            title=self.project,
            label_config=self.form.config,
            maximum_annotations=self.annotators,
            # Tasks come in the order in which they were made, and a skip is an answer: the image is refused.
            sampling="Sequential sampling",
            skip_queue="IGNORE_SKIPPED",
            show_collab_predictions=True,
        ).id

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other experiments of this machine from making the same project or task meanwhile."""
        name = hashlib.sha256(f"{self.url} {self.project}".encode()).hexdigest()[:16]
        with locked(default_folder().with_name("label-studio") / f"{name}.lock"):
            yield


def _tasks(client: Any, number: int, fields: str, filters: Any = None) -> list[Any]:
    """The tasks of a project that were made here, in the order of their making."""
    query = json.dumps({"filters": filters}) if filters else None
    listed = client.tasks.list(project=number, include=fields, query=query, page_size=PAGE)
    return sorted((task for task in listed if "key" in (task.meta or {})), key=lambda task: task.id)


def _parts(tasks: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The tasks in imports of bounded size."""
    part: list[dict[str, Any]] = []
    size = 0
    for task in tasks:
        length = len(json.dumps(task))
        if part and size + length > CHUNK:
            yield part
            part, size = [], 0
        part.append(task)
        size += length
    if part:
        yield part


def _seconds(time: str) -> float:
    """A time as the server writes it, in seconds since 1970."""
    return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()


def _reason(suggestion: Suggestion, labels: Sequence[str]) -> str:
    """Why the image was chosen, for annotators."""
    why, told = suggestion.why, list[str]()
    if why.predicted is not None and not why.predicted.ndim:
        margin = "" if math.isnan(why.margin) else f" by a margin of {why.margin:.2f}"
        told.append(f"the model says {labels[int(why.predicted)]}{margin}")
    if not math.isnan(why.gradient_norm):
        told.append(f"gradient norm {why.gradient_norm:.3g}")
    return f"For {purpose(suggestion.round)}" + (f": {', '.join(told)}" if told else "")
