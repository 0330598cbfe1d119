"""Put the streams of a sweep together in one sorted Parquet file a kind; every question is answered as before.

A sweep leaves a file or two an experiment; of a hundred thousand of them, a question takes minutes, and of the
Parquet files less than a second. Streams are removed once all Parquet files are in place, and only those that
their writer ended and that could be read in full. So this may be stopped at any point, started again, and run
while the sweep is at work: what is still written to stays, and is read beside the Parquet files.

python analysis/compact.py RESULTS

python analysis/compact.py RESULTS --stopped
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from _shared import counted, guarded, watched

from alss_ray import reading, records
from alss_ray.config import UsageError
from alss_ray.files import StoreError
from alss_ray.places import Place

ROW_GROUP = 64 * 2**20  # bytes of rows, as Arrow holds them, that are compressed and later read at once


@dataclass(frozen=True)
class CompactOptions:
    """What to compact."""

    results: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RESULTS...", help_behavior_hint="")
    ]
    """Results folders of sweeps or single runs, here or under an s3:// URI."""
    stopped: bool = False
    """Nothing is at work in these folders: take in the streams that a killed process could not end, too."""


@dataclass(frozen=True)
class Compacted:
    """One kind's rows, and the streams that they were taken from."""

    kind: str
    rows: pa.Table
    """Those of the Parquet file that was there before, too."""
    taken: Sequence[Place]
    open: int
    """Streams that were not ended."""
    damaged: int


def compact(folder: Place, stopped: bool = False) -> list[str]:
    """Compact a results folder; returns what was done and what was left, in sentences.

    Raises:
        UsageError: no records, no right to write, a damaged Parquet file, or another process that compacts them.
    """
    with _alone(folder):
        found = [_gathered(kind, folder, stopped) for kind in records.KINDS]
        if not reading.holds_records(folder):
            raise UsageError(
                f"{folder} holds no records; give the results folder of a sweep or of a single run."
            )
        new = [part for part in found if part.taken]
        sizes = {part.kind: _write(part, folder) for part in new}
        taken = [place for part in new for place in part.taken]
        with ThreadPoolExecutor(reading.REMOTE_READERS) as pool:
            list(pool.map(Place.delete, taken))
    said = [
        f"{folder}: {len(part.rows):,} {part.kind} in {records.FOLDER}/{part.kind}{records.COMPACTED} "
        f"({sizes[part.kind] / 1e6:,.1f} MB), {counted(len(part.taken), 'stream')} taken in."
        for part in new
    ]
    if not new:
        said.append(f"{folder}: no stream to take in.")
    if left := sum(part.open for part in found):
        said.append(
            f"{folder}: {counted(left, 'stream')} not ended and left as they are; if nothing is at work there, "
            "take them in with --stopped."
        )
    if left := sum(part.damaged for part in found):
        said.append(f"{folder}: {counted(left, 'stream')} not whole and left as they are.")
    return said


@contextlib.contextmanager
def _alone(folder: Place) -> Iterator[None]:
    """Keep other compactions of the folder away; on an object store they are noticed by streams that vanish."""
    if folder.local is None:
        yield
        return
    try:
        descriptor = os.open(folder.local, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"There is no results folder {folder} ({error.strerror}).") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UsageError(f"Another process is compacting {folder}; wait for it.") from error
    finally:
        os.close(descriptor)


def _gathered(kind: str, folder: Place, stopped: bool) -> Compacted:
    """A kind's rows in full: what the Parquet file holds, and what the streams that can be taken in hold."""
    places = (folder / records.FOLDER).list(f"*.{kind}{records.SUFFIX}")
    kept, problem = reading.open_compacted(kind, folder, "")
    if problem:
        raise UsageError(f"{problem} Nothing was changed; put back a copy of it, or move it away.")
    taken: list[Place] = []
    left: list[reading.Stream] = []

    def whole() -> Iterator[reading.Stream]:
        for stream in watched(reading.streams(kind, places), len(places)):
            if stream.problem is None and (stream.ended or stopped):
                taken.append(stream.place)
                yield stream
            else:
                left.append(stream)

    try:
        rows = reading.merged(kind, whole())
        if kept is not None and taken:
            before = kept.to_table().drop_columns("sweep")
            rows = reading.latest(pa.concat_tables([before, rows], promote_options="permissive"), kind)
    except FileNotFoundError as error:
        raise UsageError(f"Another process is compacting {folder} ({error}); wait for it.") from error
    except (pa.ArrowException, OSError) as error:  # a damaged page of the Parquet file, say
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"The {kind} of {folder} cannot be put together: a file is damaged, or one column has several types "
            f"({reason}); nothing was changed."
        ) from error
    for stream in left:
        if stream.problem:
            print(stream.problem, file=sys.stderr)
    damaged = sum(stream.problem is not None for stream in left)
    return Compacted(kind, rows, taken, len(left) - damaged, damaged)


def _write(part: Compacted, folder: Place) -> int:
    """Put the Parquet file in place at once; returns its bytes."""
    place = folder / records.FOLDER / f"{part.kind}{records.COMPACTED}"
    rows = part.rows.replace_schema_metadata({"alss_ray_schema": str(records.SCHEMA_VERSION)})
    per_row = max(1, rows.nbytes // max(1, len(rows)))
    order = [(key, "ascending") for key in records.KEYS[part.kind]]
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        compression="zstd",
        row_group_size=max(1, ROW_GROUP // per_row),
        write_page_checksum=True,
        sorting_columns=pq.SortingColumn.from_ordering(rows.schema, order),
    )
    content = sink.getvalue()
    try:
        place.write(content)
        return len(content)
    except StoreError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written to ({error.strerror or error}); nothing was removed from it."
        ) from error


def main(options: CompactOptions) -> None:
    """Compact folder by folder, and say what was done."""
    if not options.results:
        raise UsageError("Give at least one results folder: that of a sweep or of a single run.")
    for name in options.results:
        for sentence in compact(Place(name), options.stopped):
            print(sentence)


if __name__ == "__main__":
    given = tyro.cli(CompactOptions, description=__doc__)
    sys.exit(guarded(lambda: main(given)))
