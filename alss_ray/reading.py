"""Reading the records back: each (experiment, round) once, as the row of its latest attempt.

A folder holds a kind as streams, one an attempt, as one Parquet file that `analysis/compact.py` made of them, or
as both: streams that were not ended then, and those of a sweep that was resumed since. An experiment that a
stream speaks of is put together from both; the others stay in the Parquet file until they are asked for.
Imports neither torch nor Ray.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from alss_ray.config import UsageError
from alss_ray.files import StoreError
from alss_ray.places import Place
from alss_ray.records import COMPACTED, FOLDER, KEYS, KINDS, SCHEMA_VERSION, SUFFIX

GROUP = 500  # streams that are put together at a time: their columns are far too short to be kept as they are
LISTINGS = 3  # times that a folder is listed, where its streams are compacted while they are read
END = b"\xff\xff\xff\xff\0\0\0\0"  # the end of a stream that its writer closed
REMOTE_READERS = 32

# Checksums tell a flipped bit. Without pre-buffering only the columns in use come into memory.
PARQUET = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(
        pre_buffer=False, page_checksum_verification=True
    )
)


@dataclass(frozen=True)
class Records:
    """What results folders hold of one kind."""

    table: pa.Table
    """One row a key (`records.KEYS`) in each folder, sorted by `sweep`, the folder's name, and by the key."""
    problems: tuple[str, ...]
    """One sentence for each file that could not be read in full."""


@dataclass(frozen=True)
class Stream:
    """What one stream file holds."""

    place: Place
    table: pa.Table | None
    """Its whole rows; None where there are none."""
    ended: bool
    """Whether its writer closed it, so that no row can come any more."""
    problem: str | None
    """What is wrong with it, in a sentence."""


Watch = Callable[[Iterable[Stream], int], Iterable[Stream]]


@dataclass(frozen=True)
class Stored:
    """What one results folder holds of one kind, in two parts that have no experiment in common."""

    folder: Place
    sweep: str
    """The folder's name."""
    loose: pa.Table
    """The rows of the experiments that have streams, sorted by key."""
    compacted: ds.Dataset | None
    """The others' rows, sorted by key, in a Parquet file; None where there is none."""
    problems: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.loose) + (0 if self.compacted is None else self.compacted.count_rows())

    @property
    def schema(self) -> pa.Schema:
        """The columns of both parts; raises ArrowTypeError where a column's types have nothing in common."""
        compacted = [] if self.compacted is None else [self.compacted.schema]
        return pa.unify_schemas([*compacted, self.loose.schema], promote_options="permissive")

    def table(self, names: Sequence[str]) -> pa.Table:
        """All rows with the columns of these names, as far as there are any; raises as Arrow where one is damaged."""
        parts = [] if self.compacted is None else [self.compacted]
        tables = [part.to_table([n for n in names if n in part.schema.names]) for part in parts]
        if len(self.loose) or not tables:
            tables.append(self.loose.select([n for n in names if n in self.loose.column_names]))
        return pa.concat_tables(tables, promote_options="permissive")


def read(kind: str, folders: Iterable[Place | Path]) -> Records:
    """Every record of a kind ('rounds', 'curves' or 'samples') below results folders, each key once.

    Files that are damaged are named in `problems` and the rest is read.

    Raises:
        UsageError: a folder that does not exist or holds no records at all.
        pyarrow.ArrowException, OSError: a compacted file is damaged, or a column's types have nothing in common.
    """
    found = stored(kind, folders)
    return Records(table(kind, found), tuple(problem for part in found for problem in part.problems))


def table(kind: str, found: Sequence[Stored], columns: Collection[str] | None = None) -> pa.Table:
    """All rows of a kind in results folders, sorted by `sweep` and key; raises as `read` does.

    Args:
        columns: what is wanted beside `sweep`, the key and `attempt`, as far as the records have it; everything
            unless given. The fewer they are, the less time and memory a compacted sweep takes.
    """
    keys = ("sweep", *KEYS[kind])
    names = unified(found).names
    if columns is not None:
        names = [name for name in names if name in {*keys, "attempt", *columns}]
    whole = pa.concat_tables([part.table(names) for part in found], promote_options="permissive")
    if any(part.compacted is not None and len(part.loose) for part in found):
        whole = whole.sort_by([(key, "ascending") for key in keys])
    return whole.select(names)


def stored(
    kind: str, folders: Iterable[Place | Path], watch: Watch = lambda streams, _: streams
) -> list[Stored]:
    """What each results folder holds of a kind, sorted by its name; compacted rows are not read yet.

    Args:
        watch: is given the streams on their way and their number, and passes them on.

    Raises:
        UsageError: a folder that does not exist or holds no records at all.
    """
    named = _named([Place(folder) for folder in folders])
    return [_stored(kind, folder, sweep, watch) for sweep, folder in sorted(named, key=lambda pair: pair[0])]


def unified(found: Iterable[Stored]) -> pa.Schema:
    """The columns of several folders; raises ArrowTypeError where a column's types have nothing in common."""
    return pa.unify_schemas([part.schema for part in found], promote_options="permissive")


def _named(folders: Sequence[Place]) -> list[tuple[str, Place]]:
    """The folders with their own names, or with their paths where two have the same."""
    names = [folder.absolute().name for folder in folders]
    if len(set(names)) < len({folder.absolute() for folder in folders}):
        names = [str(folder) for folder in folders]
    return list(zip(names, folders, strict=True))


def _stored(kind: str, folder: Place, sweep: str, watch: Watch) -> Stored:
    for again in reversed(range(LISTINGS)):
        # Streams before the Parquet file: what is compacted in between is missed, and then listed anew.
        places = (folder / FOLDER).list(f"*.{kind}{SUFFIX}")
        compacted, problem = open_compacted(kind, folder, sweep)
        if not places and compacted is None and not holds_records(folder):
            raise UsageError(
                f"{folder} holds no records (looked for {FOLDER}/*{SUFFIX} and {FOLDER}/*{COMPACTED}); "
                "give the results folder of a sweep or of a single run."
            )
        problems = [problem] if problem else []
        try:
            loose = merged(kind, _telling(watch(streams(kind, places), len(places)), problems))
            break
        except FileNotFoundError:
            if not again:
                raise
    if compacted is not None and len(loose):
        theirs = pc.field("experiment").isin(pc.unique(loose["experiment"]))
        before = compacted.filter(theirs).to_table().drop_columns("sweep")
        loose = latest(pa.concat_tables([before, loose], promote_options="permissive"), kind)
        compacted = compacted.filter(~theirs)
    loose = loose.add_column(0, "sweep", pa.repeat(pa.scalar(sweep, pa.string()), len(loose)))
    return Stored(folder, sweep, loose, compacted, tuple(problems))


def _telling(found: Iterable[Stream], problems: list[str]) -> Iterator[Stream]:
    """The streams, their problems added to a list as they go by."""
    for stream in found:
        problems.extend([stream.problem] if stream.problem else [])
        yield stream


def holds_records(folder: Place) -> bool:
    """Whether there is a file of records of any kind in a results folder."""
    return any((folder / FOLDER).list(f"*{SUFFIX}")) or any((folder / FOLDER).list(f"*{COMPACTED}"))


def open_compacted(kind: str, folder: Place, sweep: str) -> tuple[ds.Dataset | None, str | None]:
    """A folder's Parquet file of a kind if there is one, with a column `sweep`, and what is wrong with it if it is."""
    place = folder / FOLDER / f"{kind}{COMPACTED}"
    if not place.exists():
        return None, None
    store, path = place.reached()
    try:
        fragment = PARQUET.make_fragment(path, store, partition_expression=ds.field("sweep") == sweep)
        schema = fragment.physical_schema
        if problem := _unknown_schema(place, schema):
            return None, problem
        _check(kind, schema)
    except (pa.ArrowException, OSError) as error:
        return None, f"{place} is damaged and was left out ({str(error).splitlines()[0]})."
    whole = pa.schema([pa.field("sweep", pa.string()), *schema, *_newer(kind, schema)], schema.metadata)
    return ds.FileSystemDataset([fragment], whole, PARQUET, store), None


def streams(kind: str, places: Sequence[Place]) -> Iterator[Stream]:
    """What stream files hold, in their order, read side by side; raises FileNotFoundError where one has gone."""
    remote = bool(places) and places[0].local is None
    with ThreadPoolExecutor(REMOTE_READERS if remote else os.cpu_count()) as pool:
        for start in range(0, len(places), GROUP):
            yield from pool.map(lambda place: _read_stream(place, kind), places[start : start + GROUP])


def _read_stream(place: Place, kind: str) -> Stream:
    batches: list[pa.RecordBatch] = []
    ended = False
    try:
        content = place.read()
        if not content:
            return Stream(place, None, False, None)  # killed between claiming the file and its first write
        ended = content.endswith(END)
        with pa.ipc.open_stream(content) as stream:
            if problem := _unknown_schema(place, stream.schema):
                return Stream(place, None, ended, problem)
            _check(kind, stream.schema)
            for batch in stream:
                batch.validate(full=True)
                batches.append(batch)
        return Stream(place, _up_to_date(kind, pa.Table.from_batches(batches, stream.schema)), ended, None)
    except (FileNotFoundError, StoreError):
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        if not batches:
            return Stream(place, None, ended, f"{place} is damaged and was left out ({reason}).")
        table = _up_to_date(kind, pa.Table.from_batches(batches))
        problem = f"{place} is cut off or damaged after {len(table)} rows, which were used ({reason})."
        return Stream(place, table, ended, problem)


def _unknown_schema(place: Place, schema: pa.Schema) -> str | None:
    found = (schema.metadata or {}).get(b"alss_ray_schema", b"none").decode()
    if found == str(SCHEMA_VERSION):
        return None
    return f"{place} has schema version {found}, not {SCHEMA_VERSION}; it was left out."


def _check(kind: str, schema: pa.Schema) -> None:
    """Raise ArrowInvalid where a column is not as records.py has it, or one of the key is absent."""
    types = dict(zip(schema.names, schema.types, strict=True))
    own = {*KEYS[kind], "attempt"}
    if wrong := [
        name for name, type_, _ in KINDS[kind] if (types[name] != type_ if name in types else name in own)
    ]:
        raise pa.ArrowInvalid(f"its column {wrong[0]} is not as it was written")


def _newer(kind: str, schema: pa.Schema) -> list[pa.Field]:
    """Columns that records of this kind have had only since a file was written."""
    return [pa.field(name, type_) for name, type_, _ in KINDS[kind] if name not in schema.names]


def _up_to_date(kind: str, table: pa.Table) -> pa.Table:
    """The table with the columns that it was written before, empty."""
    for field in _newer(kind, table.schema):
        table = table.append_column(field, pa.nulls(len(table), field.type))
    return table


def merged(kind: str, found: Iterable[Stream]) -> pa.Table:
    """The rows of streams that come sorted by file name: each key once, sorted by key."""
    done: list[pa.Table] = []
    group: list[pa.Table] = []
    before = ""
    for stream in found:
        identity = stream.place.name.rpartition("-")[0]
        if len(group) >= GROUP and identity != before:
            done.append(latest(pa.concat_tables(group, promote_options="permissive"), kind))
            group = []
        if stream.table is not None and len(stream.table):
            group.append(stream.table)
        before = identity
    if group:
        done.append(latest(pa.concat_tables(group, promote_options="permissive"), kind))
    if not done:
        return pa.schema([(name, type_) for name, type_, _ in KINDS[kind]]).empty_table()
    whole = pa.concat_tables(done, promote_options="permissive")
    ends = [(part["experiment"][0].as_py(), part["experiment"][-1].as_py()) for part in done]
    in_order = all(a[1] < b[0] for a, b in itertools.pairwise(ends))
    return whole if in_order else latest(whole, kind)  # not in order: somebody has renamed files


def latest(table: pa.Table, kind: str) -> pa.Table:
    """The row of the highest attempt for each key, sorted by key."""
    keys = KEYS[kind]
    order = [(key, "ascending") for key in keys] + [("attempt", "descending")]
    table = table.combine_chunks().sort_by(order)
    new = np.zeros(len(table), bool)
    new[:1] = True
    for key in keys:
        column = table[key].combine_chunks()
        new[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return table if new.all() else table.filter(pa.array(new))
