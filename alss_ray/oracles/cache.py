"""Labels that were bought once stay bought: a folder of answers, keyed by what was asked of whom.

A key is the SHA-256 of the oracle's identity (name, version, parameters) and of the image (bytes, shape, type).
An entry is one small file that carries its key and a checksum, so a truncated, damaged or misplaced one counts
as absent and is bought again. Entries appear whole, by rename or by an object store's put, so any number of
processes may read and write one folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from alss_ray.config import UsageError, Waiting, component_name
from alss_ray.files import StoreError, locked, told
from alss_ray.oracles.base import Errand, ImageBatch, Labels, Oracle
from alss_ray.places import Place

MAGIC = b"alss-label 1"
TIMED_OUT, POISON = "time-out", "poison"  # refusals that say something of the moment, not of the image


class OracleError(RuntimeError):
    """The labelling tool is broken: the message is one sentence that names the image and what went wrong."""


@dataclass(frozen=True)
class Verdict:
    """What an oracle says of one image: a label or a refusal."""

    value: Tensor | None = None
    """The label, on the CPU; None where the image is refused."""
    refusal: str = ""
    """The reason, where there is no label."""
    errand: Errand | None = None
    """How it came about, where a person gave it."""

    @property
    def lasting(self) -> bool:
        """Whether the image would get the same answer at any other time."""
        return self.refusal not in (TIMED_OUT, POISON)


@dataclass
class Tally:
    """What a caller's labels cost it. A sweep that buys nothing has `bought` at 0."""

    asked: int = 0
    """Images for which a label was asked."""
    bought: int = 0
    """Images that the oracle had to look at; the others were in the cache or on their way for someone else."""


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/alss_ray/labels`, in the home folder where that is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alss_ray" / "labels"


def oracle_identity(oracle: Oracle) -> str:
    """Hash of the oracle's name, its `version` and its dataclass fields, less those declared `local`: 64 digits.

    A class without fields is its name and version: two objects of it that label differently must differ there.

    Raises:
        UsageError: a field holds something whose content cannot be named.
    """
    named = {"oracle": component_name(oracle), "version": str(getattr(oracle, "version", ""))}
    return hashlib.sha256(json.dumps([named, _named(oracle)], sort_keys=True).encode()).hexdigest()


def _named(value: Any) -> Any:
    """The content of an oracle's field as plain JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Tensor | np.ndarray):
        array = np.ascontiguousarray(value)
        return [array.dtype.str, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
    if isinstance(value, Mapping):
        return {str(key): _named(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_named(part) for part in value]
    if dataclasses.is_dataclass(value):
        fields = [f.name for f in dataclasses.fields(value) if f.metadata.get("identity", True)]
        return {"": component_name(value), **{name: _named(getattr(value, name)) for name in fields}}
    if callable(getattr(value, "label", None)):
        return component_name(value)
    raise UsageError(
        f"An oracle has a field that holds a {component_name(value)}, whose content cannot be part of a cache "
        "key; use numbers, text, tensors or dataclasses of them, or declare the field with config.local()."
    )


def image_key(identity: str, image: np.ndarray) -> str:
    """Names the label of an image by an oracle: 64 hexadecimal digits. Position in D plays no part."""
    content = np.ascontiguousarray(image)
    about = f"{identity} {content.dtype.str} {content.shape} ".encode()
    return hashlib.sha256(about + content.tobytes()).hexdigest()


def ask(oracle: Oracle, images: ImageBatch) -> list[Verdict]:
    """The oracle's verdict on each image.

    Raises:
        OracleError: it raised, or gave another number of labels than images.
    """
    told = ", ".join(map(_told, images, images.indices.tolist()))
    try:
        labels = oracle.label(images)
        values = labels.values.detach().cpu()
    except (UsageError, Waiting):
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise OracleError(
            f"The oracle {component_name(oracle)} failed on {told}: {type(error).__name__}: {error} "
            f"({Path(place.filename).name}, line {place.lineno})."
        ) from error
    if len(values) != len(images):
        raise OracleError(
            f"The oracle {component_name(oracle)} gave {len(values)} labels for {len(images)} images: {told}."
        )
    return [
        Verdict(
            None if k in labels.refusals else values[k].clone(),
            labels.refusals.get(k, ""),
            labels.errands.get(k),
        )
        for k in range(len(images))
    ]


def _told(image: np.ndarray, index: int) -> str:
    place = f"sample {index} of D" if index >= 0 else "a synthesised image"
    return f"{place} (SHA-256 {hashlib.sha256(image.tobytes()).hexdigest()[:12]})"


def assemble(verdicts: Sequence[Verdict], bought: int) -> Labels:
    """One batch of labels, in order, `bought` of them now. The rows of refused images are zero.

    Raises:
        OracleError: the labels differ in shape or type.
    """
    rows = [verdict.value for verdict in verdicts if verdict.value is not None]
    kinds = sorted({f"{str(row.dtype).removeprefix('torch.')} {tuple(row.shape)}" for row in rows})
    if len(kinds) > 1:
        raise OracleError(f"An oracle gave labels of differing kinds ({', '.join(kinds)}); they must agree.")
    # With nothing to go by, bool: joined with the labels of other calls, it takes their type.
    blank = torch.zeros_like(rows[0]) if rows else torch.zeros((), dtype=torch.bool)
    values = [blank if verdict.value is None else verdict.value for verdict in verdicts]
    refusals = {k: verdict.refusal for k, verdict in enumerate(verdicts) if verdict.value is None}
    errands = {k: verdict.errand for k, verdict in enumerate(verdicts) if verdict.errand is not None}
    stacked = torch.stack(values) if values else torch.zeros(0, dtype=torch.bool)
    return Labels(stacked, refusals, bought, errands)


def encode(key: str, verdict: Verdict) -> bytes:
    """The entry's bytes: one line with key and checksum, then safetensors."""
    said = (
        {"value": verdict.value.contiguous()}
        if verdict.value is not None
        else {"refusal": _text(verdict.refusal)}
    )
    if verdict.errand is not None:
        said["errand"] = _text(json.dumps(dataclasses.asdict(verdict.errand)))
    body = save(said)
    checksum = hashlib.sha256(key.encode() + body).hexdigest()
    return b" ".join((MAGIC, key.encode(), checksum.encode())) + b"\n" + body


def decode(key: str, content: bytes) -> Verdict | None:
    """The answer in an entry; None unless it is whole, undamaged and this key's."""
    line, _, body = content.partition(b"\n")
    checksum = hashlib.sha256(key.encode() + body).hexdigest()
    if line != b" ".join((MAGIC, key.encode(), checksum.encode())):
        return None
    try:
        tensors = load(body)
    except SafetensorError:
        return None
    errand = Errand(**json.loads(_read(tensors["errand"]))) if "errand" in tensors else None
    if "value" in tensors:
        return Verdict(tensors["value"], errand=errand)
    return Verdict(refusal=_read(tensors["refusal"]), errand=errand)


def _text(text: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(text.encode(), np.uint8).copy())


def _read(text: Tensor) -> str:
    return bytes(text.tolist()).decode()


class LabelStore:
    """Entries in a folder, here or on an object store. Travels to Ray's workers as the folder's name."""

    def __init__(self, folder: str | Path | Place) -> None:
        """Name the folder; it is made when the first label is written.

        Raises:
            UsageError: the URI is none that pyarrow knows.
        """
        self.folder = Place(folder).absolute()

    def place(self, key: str) -> Place:
        """Where the entry of `key` lies."""
        return self.folder / f"{key[:2]}/{key[2:4]}/{key}.label"

    def read(self, key: str) -> bytes | None:
        """The entry as it was written; None where there is none or it is damaged.

        Raises:
            StoreError: the store does not answer, however often it is asked, or the disk cannot be read.
        """
        content = _entry(self.place(key), key)
        if (
            content is None
            and self.folder.local is None
            and (content := _entry(_unsent(key), key)) is not None
        ):
            self.write(key, content)
        return content

    def write(self, key: str, content: bytes) -> None:
        """Keep an entry, in the place of whatever is there.

        One that is on its way to an object store is kept on this machine, too, and sent when it is asked for again:
        it is paid for, whether or not the store answers.

        Raises:
            StoreError: the disk is full, or the store does not answer, however often it is asked.
        """
        away = self.folder.local is None
        if away:
            with contextlib.suppress(OSError):
                _unsent(key).write(content)
        with told("A label", self.folder):
            self.place(key).write(content)
        if away:
            with contextlib.suppress(OSError):
                _unsent(key).delete()

    @contextlib.contextmanager
    def reserved(self, keys: Iterable[str]) -> Iterator[bool]:
        """Keep others from buying labels meanwhile; yields whether that is possible, which needs a folder here.

        Raises:
            StoreError: the folder cannot be written to.
        """
        folder = self.folder.local
        with contextlib.ExitStack() as locks:
            if folder is not None:
                for shelf in sorted({key[:2] for key in keys}):  # in order: no two wait for each other
                    with told("A label", self.folder):
                        locks.enter_context(locked(folder / f"{shelf}.lock"))
            yield folder is not None


def _entry(place: Place, key: str) -> bytes | None:
    try:
        content = place.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        told = str(error).removesuffix(".")
        raise StoreError(f"Labels cannot be looked up: {told}; go on with --resume.") from error
    return content if decode(key, content) is not None else None


def _unsent(key: str) -> Place:
    """Where this machine keeps a label that is not on its object store yet."""
    return Place(default_folder().with_name("unsent") / f"{key}.label")


class CachedOracle:
    """An oracle that asks another one only for what the folder lacks. In-process: it needs no Ray.

    Every label is stored as soon as it is known, so a crash loses at most the images in flight, which are
    `chunk`: one by default, more for a tool whose calls are dear and whose images are cheap. Of processes that ask
    for the same image at the same moment one buys it. On an object store all of them do, with the same result;
    the service buys it once there, too.
    """

    def __init__(self, oracle: Oracle, folder: str | Path | Place, chunk: int = 1) -> None:
        """Keep the labels of `oracle` in `folder`, a path or a URI.

        Raises:
            UsageError: the oracle has a field whose content cannot be named, or the folder cannot be used.
        """
        self.oracle, self.store, self.chunk = oracle, LabelStore(folder), chunk
        self.identity = oracle_identity(oracle)
        self.tally = Tally()

    def label(self, images: ImageBatch) -> Labels:
        """Labels from the folder, the missing ones from the oracle; an image that stands twice is bought once.

        Raises:
            OracleError: the oracle raised or gave labels of differing shapes.
            StoreError: the store does not answer.
        """
        keys = [image_key(self.identity, image) for image in images]
        known: dict[str, Verdict] = {}
        missing: dict[str, int] = {}
        for position, key in enumerate(keys):
            if key not in known and key not in missing:
                verdict = self._look(key)
                if verdict is None:
                    missing[key] = position
                else:
                    known[key] = verdict
        wanted, bought = list(missing.items()), 0
        for start in range(0, len(wanted), self.chunk):
            part = wanted[start : start + self.chunk]
            with self.store.reserved(key for key, _ in part) as waited:
                if waited:  # perhaps for somebody who bought the same
                    found = {key: verdict for key, _ in part if (verdict := self._look(key)) is not None}
                    known |= found
                    part = [(key, position) for key, position in part if key not in found]
                known |= self._buy(images, part)
            bought += len(part)
        self.tally.asked += len(keys)
        return assemble([known[key] for key in keys], bought)

    def _look(self, key: str) -> Verdict | None:
        content = self.store.read(key)
        return decode(key, content) if content is not None else None

    def _buy(self, images: ImageBatch, part: Sequence[tuple[str, int]]) -> dict[str, Verdict]:
        """Ask the oracle for the images of some keys and positions, and keep what it says."""
        if not part:
            return {}
        batch = images.take([position for _, position in part])
        self.tally.bought += len(part)
        got = {key: verdict for (key, _), verdict in zip(part, ask(self.oracle, batch), strict=True)}
        for key, verdict in got.items():
            if verdict.lasting:
                self.store.write(key, encode(key, verdict))
        return got


def remembering(oracle: Oracle, folder: str | Path | Place) -> Oracle:
    """The oracle with a cache before it, unless it keeps its labels itself."""
    return oracle if getattr(oracle, "keeps", False) else CachedOracle(oracle, folder)
