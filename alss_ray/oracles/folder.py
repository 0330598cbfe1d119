"""People who label in a folder: every batch of images is a folder in their inbox (batch.py says what lies there)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alss_ray.config import UsageError
from alss_ray.files import locked, told, write_text
from alss_ray.oracles.batch import ASKED, Batch, write_batch
from alss_ray.oracles.people import Returned, Suggestion, Wanted, purpose

QUESTION = "question.json"
"""What an inbox is for."""


@dataclass(frozen=True)
class FolderAnnotators:
    """People who find what is to be labelled in a folder, their inbox, and leave the labels there."""

    inbox: Path
    wanted: Wanted
    question: str
    growing: bool = False
    """Whether the classes may change: for who reads labels as they were written, and keeps none by its number."""

    @property
    def where(self) -> str:
        """The batches that lack labels, with how many they have."""
        there, lacking = self.returned().verdicts, []
        for batch in self.batches():
            if (done := sum(entry.key in there for entry in batch.entries)) < len(batch.entries):
                lacking.append(f"{batch.folder} (has {done} of {len(batch.entries)})")
        *most, last = lacking or [str(self.inbox)]
        return f"{', '.join(most)} and {last}" if most else last

    def ask(self, suggestions: Sequence[Suggestion]) -> None:
        """Make a batch of the images that are in none yet.

        Raises:
            UsageError: the inbox is another question's.
            StoreError: the inbox cannot be written to.
        """
        with told("The images for people", self.inbox), locked(self.inbox / ".lock"):
            for left in self.inbox.glob(".*.part"):  # by a process that was killed
                shutil.rmtree(left)
            self._check()
            batches = self.batches()
            known = {entry.key for batch in batches for entry in batch.entries}
            new = {s.key: s for s in suggestions if s.key not in known}
            if new:
                number = 1 + max((batch.number for batch in batches), default=0)
                what = purpose(suggestions[0].round).removeprefix("the ").replace(" ", "-")
                folder = self.inbox / f"{number:03d}-{what}"
                write_batch(folder, list(new.values()), self.wanted, self.question)

    def returned(self) -> Returned:
        """All labels that lie in the inbox.

        Raises:
            UsageError: the inbox is another question's.
        """
        self._check()
        parts = [batch.returned(self.wanted) for batch in self.batches()]
        verdicts = {key: verdict for part in parts for key, verdict in part.verdicts.items()}
        return Returned(verdicts, [complaint for part in parts for complaint in part.complaints])

    def _check(self) -> None:
        """Make an inbox that is new this question's own."""
        path = self.inbox / QUESTION
        own = {"question": self.question, "wanted": dataclasses.asdict(self.wanted)}
        own = json.loads(json.dumps(own))  # as it was read back: tuples are lists
        there: Any = None
        with contextlib.suppress(FileNotFoundError, ValueError):
            there = json.loads(path.read_text(encoding="utf-8"))
        if there == own:
            return
        if there is not None and not (self.growing and there.get("question") == self.question):
            raise UsageError(
                f"{self.inbox} was made for another question ({path} says which); give another folder."
            )
        write_text(path, json.dumps(own, indent=2) + "\n")

    def batches(self) -> list[Batch]:
        """What was asked so far, in that order."""
        found = [Batch.read(path.parent) for path in self.inbox.glob(f"[0-9]*-*/{ASKED}")]
        return sorted(found, key=lambda batch: batch.number)
