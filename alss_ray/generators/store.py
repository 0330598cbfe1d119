"""Stage 1 is trained once: a folder of trained generators, safe for any number of processes.

A trained generator is a function of the task's data, the architecture, n, the training settings and the seed;
their hash is its key. Whoever asks first trains, holding the key's lock; the others wait for that lock. The
kernel drops the lock of a process that dies, so the next in line takes the job over, from the last snapshot of the
training, which is taken every minute. Files appear whole. On an object store there is no lock: two who ask at the same
moment both train, and get the same.
`generators/desk.py` shares the same artifacts between the machines of a Ray cluster.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from alss_ray.checkpoint import Tensors, plain
from alss_ray.config import UsageError, component_name, digest
from alss_ray.files import StoreError, locked, told
from alss_ray.generators.base import Embedding, Generator, Progress
from alss_ray.places import Place
from alss_ray.tasks.base import TaskData

SNAPSHOT_EVERY = 60.0  # seconds
VERSION = 2  # raise when training or the file's layout changes, so that older artifacts are not taken

Share = Callable[[bytes], None]


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/alss_ray/generators`, in the home folder where that is not set."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "alss_ray" / "generators"


@dataclass(frozen=True)
class Request:
    """What is asked of a store: a generator for these data."""

    generator: Generator
    data: TaskData
    fingerprint: str
    """`data.fingerprint()`, which takes a moment for large sets and is known to the caller."""
    device: torch.device
    progress: Progress

    @property
    def key(self) -> str:
        """Names the artifact: everything that its training depends on."""
        return digest(self.generator, data=self.fingerprint, version=VERSION)


@dataclass(frozen=True)
class Stocked:
    """A trained generator, and what this caller did to get it."""

    embedding: Embedding
    key: str
    trained: bool
    """True for the one caller that trained it."""
    seconds: float
    """Spent here, training or waiting."""


class GeneratorSource(Protocol):
    """Where an experiment gets its stage 1 from."""

    def obtain(self, request: Request) -> Stocked: ...


@dataclass
class StoredSnapshots:
    """The last snapshot of one unfinished training, as a file that goes when the generator is there."""

    place: Place
    every: float
    """Seconds between two snapshots."""
    share: Share
    last: float = field(default_factory=time.monotonic)

    def load(self) -> Tensors | None:
        try:
            return load(self.place.read())
        except StoreError:
            raise
        except (SafetensorError, OSError):
            return None

    def offer(self, state: Callable[[], Tensors]) -> None:
        if time.monotonic() - self.last < self.every:
            return
        content = save(plain(state()))
        with told("The generator's training", self.place.parent):
            self.place.write(content)
        self.share(content)
        self.last = time.monotonic()


class GeneratorStore:
    """Generators as safetensors files in one folder, here or on an object store."""

    def __init__(self, folder: str | Path | Place, snapshot_every: float = SNAPSHOT_EVERY) -> None:
        self.folder = Place(folder)
        self.snapshot_every = snapshot_every

    def path(self, key: str) -> Place:
        return self.folder / f"{key}.safetensors"

    def snapshot(self, key: str) -> Place:
        """Where the unfinished training is kept."""
        return self.folder / f"{key}.unfinished.safetensors"

    def content(self, key: str) -> bytes | None:
        """The generator's file; None where the folder does not have it whole."""
        try:
            content = self.path(key).read()
            return content if "codes" in load(content) else None
        except StoreError:
            raise
        except (SafetensorError, OSError):
            return None

    def obtain(self, request: Request, share: Share = lambda content: None) -> Stocked:
        """The trained generator, from the folder or by training it now.

        Args:
            share: given every snapshot's file as well.
        """
        started = time.monotonic()
        trained = False
        with self._reserved(request.key):
            embedding = self.load(request)
            if embedding is None:
                embedding, trained = self.train(request, share), True
        return Stocked(embedding, request.key, trained, time.monotonic() - started)

    def _reserved(self, key: str) -> contextlib.AbstractContextManager[None]:
        """Keep other processes from training the same; raises UsageError where the folder cannot be used."""
        folder = self.folder.local
        if folder is None:
            return contextlib.nullcontext()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{key}.lock").touch()
        except OSError as error:
            raise UsageError(
                f"Generators cannot be kept in {folder} ({error.strerror}); give another folder with --cache."
            ) from error
        return locked(folder / f"{key}.lock")

    def load(self, request: Request) -> Embedding | None:
        """The stored generator; None where there is none or the file is damaged."""
        content = self.content(request.key)
        if content is None:
            return None
        try:
            return self._decoded(request, content)
        except (RuntimeError, KeyError):  # whole, but not the weights of this generator
            return None

    def _decoded(self, request: Request, content: bytes) -> Embedding:
        tensors = load(content)
        encoder, decoder = request.generator.modules(request.data.image_shape)
        for prefix, part in (("encoder.", encoder), ("decoder.", decoder)):
            part.load_state_dict(
                {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            )
        return Embedding.frozen(encoder, decoder, tensors["codes"], request.device)

    def train(self, request: Request, share: Share = lambda content: None) -> Embedding:
        """Train, freeze and store, whether or not the folder has it already; an unfinished training goes on."""
        started = time.monotonic()
        snapshots = StoredSnapshots(self.snapshot(request.key), self.snapshot_every, share)
        pair = request.generator.train(request.data.images, request.device, request.progress, snapshots)
        embedding = Embedding.of(*pair, request.data.images, request.device)
        if not embedding.codes.isfinite().all():
            raise UsageError(
                f"The {component_name(request.generator)} generator diverged: its codes are not finite; "
                "lower --generator-learning-rate."
            )
        tensors = {"codes": embedding.codes}
        for prefix, part in (("encoder.", embedding.encoder), ("decoder.", embedding.decoder)):
            tensors |= {prefix + name: t.detach().cpu().contiguous() for name, t in part.state_dict().items()}
        about = {"host": platform.node(), "seconds": round(time.monotonic() - started, 2)}
        with told("The generator", self.folder):
            self.path(request.key).write(save(tensors, {"about": json.dumps(about)}))
            self.snapshot(request.key).delete()
        return embedding
