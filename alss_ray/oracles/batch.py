"""A batch of images for people, as a folder: written once and whole, and read for the labels that were left in it.

    index.html      the contact sheet: one page, which needs nothing but itself
    manifest.csv    one row an image and why it was suggested; people write into its column `label`
    images/         what is to be labelled, PNG
    predicted/      what the network makes of them where labels are masks or maps, NPY, to begin from
    labels/         where masks and maps come back, each under its image's name (PNG, TIFF, NPY or NPZ)
    asked.json      what was asked, when and for whom; nobody edits it

After it has appeared it is not written to again: what people have open is theirs alone. Labels may also come in CSV
files of any name beside the manifest, with the columns `image` and `label`.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import math
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alss_ray.array_files import SUFFIXES, read_array
from alss_ray.config import UsageError
from alss_ray.oracles.base import Errand
from alss_ray.oracles.cache import Verdict
from alss_ray.oracles.contact_sheet import contact_sheet, picture
from alss_ray.oracles.people import Classes, Maps, Returned, Suggestion, Wanted

ASKED, PAGE, MANIFEST = "asked.json", "index.html", "manifest.csv"
IMAGES, PREDICTED, LABELS = "images", "predicted", "labels"
SKIP = "skip"
"""What people write in the place of a label for an image that they cannot label."""
COLUMNS = ("image", "label", "predicted", "margin", "gradient_norm", "round", "name", "position", "identity")


@dataclass(frozen=True)
class Entry:
    """An image of a batch."""

    image: str
    """Its file's name without the suffix."""
    key: str
    asker: str
    name: str = ""
    """What it is called in D; empty where it has no name."""


@dataclass(frozen=True)
class Batch:
    """Images that were asked for together."""

    folder: Path
    asked: float
    """When, in seconds since 1970."""
    entries: Sequence[Entry]

    @classmethod
    def read(cls, folder: Path) -> Batch:
        """The batch in a folder.

        Raises:
            UsageError: what it knows of itself is damaged.
        """
        path = folder / ASKED
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            return cls(folder, float(about["asked"]), [Entry(**entry) for entry in about["images"]])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"{path} is damaged ({error}); put back a copy of it, or take {folder} away to be asked again."
            ) from error

    @property
    def number(self) -> int:
        """What its folder's name begins with, 0 for nothing of that kind."""
        digits = re.match(r"\d*", self.folder.name)
        return int(digits[0]) if digits and digits[0] else 0

    def returned(self, wanted: Wanted) -> Returned:
        """The labels that people have left here, each as far as it can be taken."""
        complaints: list[str] = []
        answers: dict[str, list[tuple[Tensor | None, float, Path]]] = {}
        known = {entry.image: entry for entry in self.entries}
        for path, image, read in self._answers(wanted, complaints):
            if image not in known:
                complaints.append(f"{path}: {image!r} was never asked for in {self.folder.name}.")
                continue
            try:
                answer = read(), path.stat().st_mtime, path
            except (UsageError, OSError) as error:
                complaints.append(f"{path}: {error}")
            else:
                answers.setdefault(image, []).append(answer)
        verdicts = {}
        for image, given in answers.items():
            value, came, _ = given[0]
            if len(given) > 1:
                agree = all(_equal(value, other) for other, *_ in given[1:])
                files = " and ".join(sorted({str(path) for *_, path in given}))
                end = "they agree" if agree else "they differ, so none is taken; leave one"
                complaints.append(f"{files}: {image} has {len(given)} labels; {end}.")
                if not agree:
                    continue
            # A file that was copied may say that it is older than the question.
            errand = Errand(known[image].asker, self.asked, max(came, self.asked))
            verdicts[known[image].key] = Verdict(value, "" if value is not None else "skipped", errand)
        return Returned(verdicts, complaints)

    def _answers(
        self, wanted: Wanted, complaints: list[str]
    ) -> Iterator[tuple[Path, str, Callable[[], Tensor | None]]]:
        """File, image and how its label is read (None for a skip); adds what is wrong with whole files."""
        for path in sorted(self.folder.glob("*.csv")):
            try:
                rows = read_table(path)
            except (UsageError, OSError) as error:
                complaints.append(str(error))
                continue
            for image, label in rows:
                if label:
                    yield path, Path(image).stem, functools.partial(_cell, label, image, wanted)
        if isinstance(wanted, Maps):
            for path in sorted((self.folder / LABELS).glob("*")):
                if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                    yield path, path.stem, functools.partial(_map, path, wanted)


def read_table(path: Path) -> list[tuple[str, str]]:
    """Image and label of each row of a CSV file, as spreadsheets write them: any separator, with or without a BOM.

    Raises:
        UsageError: it is no table with these columns.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    head = text.split("\n", 1)[0]
    table = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=head.count))
    try:
        names = [name.strip().lower() for name in next(table, [])]
        image, label = names.index("image"), names.index("label")
        rows = [row for row in table if len(row) > max(image, label)]
    except (ValueError, csv.Error) as error:
        raise UsageError(f"{path}: it is no table with the columns image and label ({error}).") from error
    return [(row[image].strip(), row[label].strip()) for row in rows]


def write_batch(folder: Path, suggestions: Sequence[Suggestion], wanted: Wanted, question: str) -> None:
    """Make the folder of a batch, which appears at once.

    Raises:
        UsageError: the images have a number of channels that PNG does not know.
    """
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    names = [f"{k:03d}-{s.key[:8]}" for k, s in enumerate(suggestions, 1)]
    try:
        (part / IMAGES).mkdir(parents=True)
        for name, suggestion in zip(names, suggestions, strict=True):
            picture(suggestion.image).save(part / IMAGES / f"{name}.png")
            if isinstance(wanted, Maps) and suggestion.why.predicted is not None:
                (part / PREDICTED).mkdir(exist_ok=True)
                np.save(part / PREDICTED / f"{name}.npy", suggestion.why.predicted.numpy()[0])
        if isinstance(wanted, Maps):
            (part / LABELS).mkdir()
        (part / MANIFEST).write_text(_manifest(names, suggestions, wanted), encoding="utf-8", newline="")
        page = contact_sheet(folder.name, names, suggestions, wanted, question)
        (part / PAGE).write_text(page, encoding="utf-8")
        entries = [
            {"image": n, "key": s.key, "asker": s.asker, "name": s.name}
            for n, s in zip(names, suggestions, strict=True)
        ]
        about = {"asked": time.time(), "question": question, "images": entries}
        (part / ASKED).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _manifest(names: Sequence[str], suggestions: Sequence[Suggestion], wanted: Wanted) -> str:
    """The table, with an empty column for labels."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS)
    table.writeheader()
    for name, suggestion in zip(names, suggestions, strict=True):
        why, row = suggestion.why, dict[str, Any]()
        if isinstance(wanted, Classes) and why.predicted is not None:
            row["predicted"] = wanted.names[int(why.predicted)]
        for column in ("margin", "gradient_norm"):
            if math.isfinite(value := getattr(why, column)):
                row[column] = f"{value:.4g}"
        row |= {"image": f"{name}.png", "round": suggestion.round, "name": suggestion.name}
        table.writerow(row | {"position": suggestion.index, "identity": suggestion.key})
    return text.getvalue()


def _cell(text: str, image: str, wanted: Wanted) -> Tensor | None:
    """What a cell of the column `label` says of an image."""
    if isinstance(wanted, Classes):
        near = [k for k, name in enumerate(wanted.names) if name.casefold() == text.casefold()]
        if text in wanted.names or len(near) == 1:
            return torch.tensor(wanted.names.index(text) if text in wanted.names else near[0])
    if text.casefold() == SKIP:
        return None
    can = (
        f"one of {', '.join(wanted.names)}, or"
        if isinstance(wanted, Classes)
        else f"a file in {LABELS}/, or here"
    )
    raise UsageError(f"{image} cannot be {text!r}; its label is {can} {SKIP}.")


def _map(path: Path, wanted: Maps) -> Tensor:
    """The mask or the map in a file."""
    array = read_array(path)
    if array.shape != wanted.shape:
        height, width = wanted.shape
        raise UsageError(f"it has {array.shape[1]} x {array.shape[0]} pixels; {width} x {height} are wanted.")
    if array.dtype.kind not in "buif" or not np.isfinite(array).all():
        raise UsageError("it holds values that are no finite numbers.")
    if wanted.mask:
        full = array.max() if array.max() <= 1 else 255
        return torch.from_numpy((2 * array.astype(np.float64) > full).astype(np.uint8))[None]
    return torch.from_numpy(array.astype(np.float32))[None]


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)
