"""Files that are whole or absent, and locks that do not outlive their holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from alss_ray.config import ExperimentFailed


class StoreError(ExperimentFailed, OSError):
    """What holds results or caches is full or does not answer: the message is one sentence. It may pass."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`: on success it is flushed and takes that place at once, else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def told(what: str, folder: object) -> Iterator[None]:
    """Turn a full or broken disk into a StoreError that names what could not be written where."""
    try:
        yield
    except StoreError as error:
        raise StoreError(f"{what} cannot be kept: {str(error)[:-1]}; go on with --resume.") from error
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"{what} cannot be written in {folder} ({error}); make room there and go on with --resume."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel releases it when its holder ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
