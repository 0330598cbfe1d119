"""Where results and caches lie: a folder of this machine, or one under a URI that pyarrow's filesystems reach.

`results/first` and `s3://bucket/first` are used alike. On an object store a file is one put, which is whole or
absent, as a rename makes it here. A store that does not answer is asked again before that is an error. An
endpoint of one's own is named by AWS_ENDPOINT_URL, or behind the path: `s3://bucket/path?endpoint_override=host:port`.
Imports neither torch nor Ray.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from alss_ray import files
from alss_ray.config import UsageError
from alss_ray.files import StoreError

PAUSES = (0.2, 1.0, 3.0, 10.0)  # seconds before a store that does not answer is tried again
OBJECT_STORES = ("s3", "gcs", "abfs")  # pyarrow's names of those without folders, whose puts are atomic
Result = TypeVar("Result")


class Place:
    """A folder or a file, here or elsewhere. Equal and hashable by its text, and pickled as such."""

    local: Path | None
    """Where it is on this machine; None where it is elsewhere."""

    def __init__(self, typed: str | Path | Place) -> None:
        """The place that a person named; nothing is made or looked for there.

        Raises:
            UsageError: a URI that pyarrow does not know.
        """
        self._text = str(typed)
        if self._text.startswith("file://"):
            self._text = unquote(urlsplit(self._text).path)
        if "://" not in self._text:
            self.local = Path(self._text).expanduser()
            self._text = str(self.local)
            return
        self.local = None
        uri, mark, query = self._text.partition("?")
        scheme, _, rest = uri.partition("://")
        self._bucket, _, self._path = rest.rstrip("/").partition("/")
        self._store, self._query = f"{scheme}://{self._bucket}", mark + query
        self._text = f"{self._store}/{self._path}".rstrip("/") + self._query
        if not self._bucket:
            raise UsageError(f"{str(typed)!r} names no bucket; give scheme://bucket/path.")
        try:
            _filesystem(self._store + self._query)
        except (ValueError, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"{str(typed)!r} cannot be used: {reason}.") from error
        except OSError:
            pass  # of no use now: told when it is used

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Place({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[type[Place], tuple[str]]:
        return Place, (self._text,)

    def __truediv__(self, name: str) -> Place:
        """The place of this name in the folder; `name` may lead down several folders."""
        if self.local is not None:
            return Place(self.local / name)
        return Place(f"{self._store}/{self._path}".rstrip("/") + f"/{name}{self._query}")

    @property
    def name(self) -> str:
        """The last part of the path; the bucket's name where there is no path."""
        if self.local is not None:
            return self.local.name
        return self._path.rpartition("/")[2] or self._bucket

    @property
    def parent(self) -> Place:
        """The folder that this is in."""
        if self.local is not None:
            return Place(self.local.parent)
        return Place(f"{self._store}/{self._path.rpartition('/')[0]}{self._query}")

    def absolute(self) -> Place:
        """The same place for processes that work in other folders."""
        return self if self.local is None else Place(self.local.resolve())

    def exists(self) -> bool:
        """Whether there is a file or a folder. Raises StoreError."""
        if self.local is not None:
            return self.local.exists()
        return self._patiently(
            "looked at", lambda store, path: store.get_file_info(path).type != FileType.NotFound
        )

    def is_vacant(self) -> bool:
        """Whether there is nothing, or a folder with nothing in it. Raises StoreError."""
        if self.local is not None:
            return not self.local.exists() or (self.local.is_dir() and not any(self.local.iterdir()))

        def look(store: FileSystem, path: str) -> bool:
            inside = FileSelector(path, allow_not_found=True)
            return not store.get_file_info(path).is_file and not store.get_file_info(inside)

        return self._patiently("looked at", look)

    def list(self, pattern: str) -> list[Place]:
        """The files of this folder whose names match, by name; none where there is no folder. Raises StoreError."""
        if self.local is not None:
            return [self / name for name in _files(self.local, pattern)]

        def look(store: FileSystem, path: str) -> list[str]:
            found = store.get_file_info(FileSelector(path, allow_not_found=True))
            return [info.base_name for info in found if info.is_file]

        names = self._patiently("listed", look)
        return [self / name for name in sorted(fnmatch.filter(names, pattern))]

    def read(self) -> bytes:
        """The file's content.

        Raises:
            FileNotFoundError: there is no such file.
            StoreError: the store does not answer.
        """
        if self.local is not None:
            return self.local.read_bytes()

        def get(store: FileSystem, path: str) -> bytes:
            with store.open_input_file(path) as stream:
                content: bytes = stream.read()
            return content

        return self._patiently("read", get)

    def write(self, content: bytes) -> None:
        """Put a file there at once and whole, in the place of whatever it holds.

        Raises:
            StoreError: the store does not answer.
            OSError: this machine's disk is full or cannot be written to.
        """
        if self.local is not None:
            with files.replacing(self.local) as part:
                part.write_bytes(content)
        else:
            self._patiently("written", lambda store, path: _put(store, path, content))

    def create(self) -> bool:
        """Make an empty file here; False where there is one. Of all who try at once, one at most succeeds.

        Raises:
            StoreError: the store does not answer.
            OSError: this machine's disk is full or cannot be written to.
        """
        if self.local is not None:
            try:
                self.local.touch(exist_ok=False)
            except FileExistsError:
                return False
            return True
        # An object store's put never fails because there is something. So everybody first says that they want the
        # file and then looks: who sees nobody else, and no file, has it. Listings show every put that is done.
        if self.exists():
            return False
        claim = self.parent / f"{self.name}.{uuid.uuid4().hex}.claim"
        claim.write(b"")
        try:
            if self.parent.list(f"{self.name}*") != [claim]:
                return False
            self.write(b"")
            return True
        finally:
            claim.delete()

    def delete(self) -> None:
        """Remove the file, if there is one. Raises StoreError."""
        if self.local is not None:
            self.local.unlink(missing_ok=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                self._patiently("removed", lambda store, path: store.delete_file(path))

    def reached(self) -> tuple[FileSystem, str]:
        """A filesystem of pyarrow's and the path on it, for files that are read in parts. Raises StoreError."""
        if self.local is not None:
            return LocalFileSystem(), str(self.local)
        return self._patiently("reached", lambda store, path: (store, path))

    def _patiently(self, done: str, action: Callable[[FileSystem, str], Result]) -> Result:
        """Do something with the store and the path on it, again after each pause if it does not answer."""
        for pause in (*PAUSES, None):
            try:
                store, root = _filesystem(self._store + self._query)
                return action(store, f"{root}/{self._path}".strip("/"))
            except FileNotFoundError:
                raise
            except OSError as error:
                if pause is None:
                    reason = str(error).splitlines()[0]
                    raise StoreError(
                        f"{self} cannot be {done}, though it was tried {len(PAUSES) + 1} times ({reason})."
                    ) from error
                time.sleep(pause)
        raise AssertionError


def _files(folder: Path, pattern: str) -> list[str]:
    """Names of a folder's files that match, sorted; a hundred thousand of them take a fraction of a second."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(fnmatch.filter(names, pattern))


@functools.cache
def _filesystem(uri: str) -> tuple[FileSystem, str]:
    """What reaches a bucket, and the bucket's path on it; a process needs one only."""
    if uri.startswith("s3://"):
        # Small files as one put: no upload of several parts, which a killed process would leave unfinished.
        uri += ("&" if "?" in uri else "?") + "allow_delayed_open=true"
    store, root = FileSystem.from_uri(uri)
    return store, root


def _put(store: FileSystem, path: str, content: bytes) -> None:
    if store.type_name in OBJECT_STORES:
        with store.open_output_stream(path) as stream:
            stream.write(content)
        return
    store.create_dir(path.rpartition("/")[0], recursive=True)
    part = f"{path}.{uuid.uuid4().hex}.part"
    try:
        with store.open_output_stream(part) as stream:
            stream.write(content)
        store.move(part, path)
    except OSError:
        if store.get_file_info(part).is_file:
            store.delete_file(part)
        raise
