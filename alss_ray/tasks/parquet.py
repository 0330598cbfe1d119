"""Parquet files of encoded images and labels, as the Hugging Face hub lays them out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from alss_ray.config import UsageError, local
from alss_ray.tasks.image_files import ImageFile
from alss_ray.tasks.images import ImageSet, Sample


@dataclass(frozen=True)
class Parquet(ImageSet):
    """Your own images in Parquet files: a column of encoded images (bytes, or {bytes, path}) and one of labels.

    Labels are texts, or numbers from 0; -1 and null mean that there is none. The names of the classes are taken from
    the Hugging Face metadata where the files have them. Files whose name, or whose folder's, begins with 'test' are
    the test set; where some begin with 'train', nothing else is read. Without a test set a share of the images is
    held out.
    """

    data_dir: Path = local(default=Path("data"))
    """A folder of Parquet files, or one file."""
    image_column: str = "image"
    """The column of images."""
    label_column: str = "label"
    """The column of labels."""

    name: ClassVar[str] = "parquet"

    def samples(self) -> Sequence[Sample]:
        names = self._named_classes()
        samples = []
        for file_name, path, test in self._files():
            table = self._read(path, self.image_column, self.label_column)
            rows = zip(*(column.to_pylist() for column in table), strict=True)
            for row, (image, label) in enumerate(rows):
                about = image if isinstance(image, dict) else {"bytes": image}
                name = f"{file_name} row {row}" + (f" ({about['path']})" if about.get("path") else "")
                text, fault = _label(label, names)
                if fault is None and test and text is None:
                    fault = "A test image must have a label."
                samples.append(Sample(ImageFile(name, about.get("bytes") or b""), text, test, fault))
        return samples

    def class_names(self) -> tuple[str, ...]:
        if names := self._named_classes():
            return names
        values: set[Any] = set()
        for _, path, _ in self._files():
            values |= set(self._read(path, self.label_column)[0].unique().to_pylist())
        return tuple(str(value) for value in sorted(values - {None, -1}))

    def _files(self) -> Sequence[tuple[str, Path, bool]]:
        """Name, path and whether it is of the test set, for each file that is read; their columns are looked at."""
        folder = self.data_dir.expanduser()
        paths = [folder] if folder.is_file() else sorted(folder.rglob("*.parquet"))
        if not paths:
            raise UsageError(
                f"{folder} holds no Parquet files; give their folder, or one file, with --data-dir."
            )
        named = [(str(path.relative_to(folder)) if path != folder else path.name, path) for path in paths]
        parts = [(name, path, _part(name)) for name, path in named]
        split = any(part == "train" for *_, part in parts)
        return [(name, path, part == "test") for name, path, part in parts if part or not split]

    def _named_classes(self) -> tuple[str, ...]:
        """The names that the first file's metadata gives to the labels 0, 1, ...; empty where it gives none."""
        _, path, _ = self._files()[0]
        try:
            about = json.loads((_opened(path).schema_arrow.metadata or {})[b"huggingface"])
            return tuple(about["info"]["features"][self.label_column]["names"])
        except (KeyError, TypeError, ValueError):
            return ()

    def _read(self, path: Path, *columns: str) -> list[pa.ChunkedArray]:
        """The named columns of a file, in this order."""
        file = _opened(path)
        schema = file.schema_arrow
        for column in columns:
            if column not in schema.names:
                raise UsageError(
                    f"{path} has no column {column!r} but {', '.join(schema.names)}; "
                    "give --image-column and --label-column."
                )
        kind = schema.field(self.label_column).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not any(
            suits(kind) for suits in (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string)
        ):
            raise UsageError(f"{path}: the labels are {kind}; whole numbers or texts are wanted.")
        try:
            table = file.read(columns=list(columns))
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from error
        return [table[column] for column in columns]


def _part(name: str) -> str:
    """'train', 'test' or neither: what a file's name or a folder on the way to it begins with."""
    words = [re.split(r"[^a-z]", part.lower())[0] for part in reversed(Path(name).parts)]
    return next((word for word in words if word in ("train", "test")), "")


def _label(value: Any, names: Sequence[str]) -> tuple[str | None, str | None]:
    """A label as the name of its class, None where there is none, and what is wrong with it."""
    if value is None or value == -1:
        return None, None
    if not names or value in names:
        return str(value), None
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value], None
    return None, f"Its label {value!r} is none of the {len(names)} classes."


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UsageError:
    return UsageError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}).")
