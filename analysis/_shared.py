"""What the analysis scripts share: reading the records, and telling of bad input in one sentence.

Imports neither torch nor Ray.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import track

from alss_ray import reading, records
from alss_ray.config import UsageError
from alss_ray.files import StoreError
from alss_ray.places import Place

FIXED = frozenset({"sweep"}.union(*({name for name, _, _ in kind} for kind in records.KINDS.values())))
"""Columns that every experiment has."""
MANY = 2000  # stream files whose reading takes seconds


def configuration_columns(table: pa.Table) -> list[str]:
    """The columns that are fields of an experiment's configuration, not a task's further test scores."""
    return [name for name in table.column_names if name not in FIXED and not name.startswith("test_")]


def guarded(work: Callable[[], None]) -> int:
    """Run a script's work and return its exit status: bad input becomes one sentence and status 2."""
    try:
        work()
        sys.stdout.flush()
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader has gone (`| head`); without this the interpreter complains once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def read(
    folders: Sequence[Path | Place | str],
    kinds: Iterable[str],
    columns: Collection[str] | None = None,
    fields: bool = False,
) -> dict[str, pa.Table]:
    """The records of each kind ('rounds', 'curves') in results folders; says on stderr what was damaged.

    Args:
        columns: as in `reading.table`: what is wanted beside sweep, key and attempt; everything unless given.
        fields: beside those, every field of the configurations.

    Raises:
        UsageError: a folder that does not exist, or holds no readable record.
    """
    found = stored(folders, kinds)
    with _told(folders):
        return {
            kind: reading.table(kind, parts, _wanted(parts, columns, fields)) for kind, parts in found.items()
        }


def rows_of(folder: Path | Place | str, kind: str, experiments: Collection[str]) -> list[dict[str, Any]]:
    """The rows of a kind of these experiments; those of the others, which may be many pictures, stay where they are."""
    wanted = pc.field("experiment").isin(list(experiments))
    rows = []
    for part in stored([folder], (kind,))[kind]:
        rows += part.loose.filter(wanted).to_pylist()
        rows += [] if part.compacted is None else part.compacted.to_table(filter=wanted).to_pylist()
    return rows


def _wanted(
    parts: Sequence[reading.Stored], columns: Collection[str] | None, fields: bool
) -> Collection[str] | None:
    if columns is None or not fields:
        return columns
    return {*columns, *configuration_columns(reading.unified(parts).empty_table())}


def stored(folders: Sequence[Path | Place | str], kinds: Iterable[str]) -> dict[str, list[reading.Stored]]:
    """What results folders hold of each kind, compacted rows not read yet; says on stderr what was damaged.

    Raises:
        UsageError: as `read`.
    """
    if not folders:
        raise UsageError("Give at least one results folder: that of a sweep or of a single run.")
    # A folder named twice, in whatever spelling, is read once.
    places = list({Place(folder).absolute(): Place(folder) for folder in folders}.values())
    for place in places:
        if not place.exists():
            raise UsageError(f"There is no results folder {place}.")
    with _told(places):
        found = {kind: reading.stored(kind, places, watched) for kind in kinds}
        for parts in found.values():
            reading.unified(parts)
    problems = [problem for parts in found.values() for part in parts for problem in part.problems]
    for problem in problems:
        print(problem, file=sys.stderr)
    counts = {kind: sum(map(len, parts)) for kind, parts in found.items()}
    if problems and any(counts.values()):
        print("The answer comes from what else the results hold.", file=sys.stderr)
    if counts.get("rounds") == 0:
        raise UsageError(f"There is no readable record of a finished round in {_listed(places)}.")
    return found


@contextlib.contextmanager
def _told(folders: Iterable[object]) -> Iterator[None]:
    """Turn what reading raises into one sentence."""
    try:
        yield
    except StoreError as error:
        raise UsageError(str(error)) from error
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"The records in {_listed(folders)} cannot be read together: a file is damaged, or one column "
            f"has several types ({reason})."
        ) from error


def watched(streams: Iterable[reading.Stream], total: int) -> Iterable[reading.Stream]:
    """Streams as they are read, with a bar on the terminal where there are many."""
    quiet = total < MANY or not sys.stderr.isatty()
    console = Console(stderr=True)
    return track(streams, "reading streams", total, console=console, transient=True, disable=quiet)


def counted(number: int, thing: str) -> str:
    """'1 stream', '2,000 streams'."""
    return f"{number:,} {thing}{'s' if number != 1 else ''}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A phrase that offers the known names most like one that is unknown, or all of them if none is."""
    names = sorted(known)
    return f"nearest: {_listed(difflib.get_close_matches(name, names, 3, 0.5) or names)}"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)
