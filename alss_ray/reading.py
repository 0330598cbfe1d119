"""Reading the records back: each (experiment, round) once, as the row of its latest attempt.

Imports neither torch nor Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alss_ray.config import UsageError
from alss_ray.records import FOLDER, KEYS, KINDS, SCHEMA_VERSION, SUFFIX


@dataclass(frozen=True)
class Records:
    """What a results folder holds of one kind."""

    table: pa.Table
    """One row a (sweep, experiment, round) or a (sweep, experiment, round, iteration), in that order."""
    problems: tuple[str, ...]
    """One sentence for each file that could not be read in full."""


def read(kind: str, folders: Iterable[Path]) -> Records:
    """Every record of a kind ('rounds', 'curves' or 'samples') below results folders, each key once.

    A column `sweep` is added: the name of the results folder. Files that are damaged are named in `problems`
    and the rest is read.

    Raises:
        UsageError: a folder that does not exist or holds no records at all.
    """
    folders = list(folders)
    names_of = _names(folders)
    tables, problems = [], []
    for folder in folders:
        if not any((folder / FOLDER).glob(f"*{SUFFIX}")):
            raise UsageError(
                f"{folder} holds no records (looked for {FOLDER}/*{SUFFIX}); "
                "give the results folder of a sweep or of a single run."
            )
        for path in sorted((folder / FOLDER).glob(f"*.{kind}{SUFFIX}")):
            table, problem = _read_stream(path, kind)
            if problem:
                problems.append(problem)
            if table is not None and len(table):
                sweep = pa.array([names_of[folder]] * len(table), pa.string())
                tables.append(table.add_column(0, "sweep", sweep))
    if not tables:
        names = [("sweep", pa.string()), *((name, type_) for name, type_, _ in KINDS[kind])]
        return Records(pa.schema(names).empty_table(), tuple(problems))
    whole = pa.concat_tables(tables, promote_options="permissive")
    return Records(_latest(whole, ("sweep", *KEYS[kind])), tuple(problems))


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """The folders' own names, or their paths where two have the same."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len({folder.resolve() for folder in folders}):
        names = [str(folder) for folder in folders]
    return dict(zip(folders, names, strict=True))


def _read_stream(path: Path, kind: str) -> tuple[pa.Table | None, str | None]:
    """The whole batches of a stream, and what is wrong with it if anything is."""
    batches = []
    try:
        if path.stat().st_size == 0:
            return None, None  # killed between claiming the file and its first write
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            stored = (stream.schema.metadata or {}).get(b"alss_ray_schema", b"none").decode()
            if stored != str(SCHEMA_VERSION):
                return None, f"{path} has schema version {stored}, not {SCHEMA_VERSION}; it was left out."
            types = dict(zip(stream.schema.names, stream.schema.types, strict=True))
            if wrong := [name for name, type_, _ in KINDS[kind] if types.get(name) != type_]:
                raise pa.ArrowInvalid(f"its column {wrong[0]} is not as it was written")
            for batch in stream:
                batch.validate(full=True)
                batches.append(batch)
            return pa.Table.from_batches(batches, stream.schema), None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        if not batches:
            return None, f"{path} is damaged and was left out ({reason})."
        table = pa.Table.from_batches(batches)
        return table, f"{path} is cut off or damaged after {len(table)} rows, which were used ({reason})."


def _latest(table: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """The row of the highest attempt for each key, sorted by key."""
    order = [(key, "ascending") for key in keys] + [("attempt", "descending")]
    table = table.sort_by(order)
    new = np.zeros(len(table), bool)
    new[0] = True
    for key in keys:
        column = table[key].combine_chunks()
        new[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return table.filter(pa.array(new))
