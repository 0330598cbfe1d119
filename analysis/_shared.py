"""What the analysis scripts share: reading the records, and telling of bad input in one sentence.

Imports neither torch nor Ray.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from alss_ray import reading, records
from alss_ray.config import UsageError

FIXED = frozenset({"sweep"}.union(*({name for name, _, _ in kind} for kind in records.KINDS.values())))
"""Columns that every experiment has."""


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


def read(folders: Sequence[Path], kinds: Iterable[str]) -> dict[str, pa.Table]:
    """The records of each kind ('rounds', 'curves') in results folders; says on stderr what was damaged.

    Raises:
        UsageError: a folder that does not exist, or holds no readable record.
    """
    if not folders:
        raise UsageError("Give at least one results folder: that of a sweep or of a single run.")
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"There is no results folder {folder}.")
    # A folder named twice, in whatever spelling, is read once.
    folders = list({folder.resolve(): folder for folder in folders}.values())
    tables = {}
    problems: list[str] = []
    for kind in kinds:
        try:
            found = reading.read(kind, _holding(kind, folders))
            found.table.validate(full=True)  # what a flipped bit has left readable may still be no text
        except OSError as error:
            raise UsageError(f"{error.filename} cannot be read ({error.strerror}).") from error
        except (pa.ArrowException, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(
                f"The records in {_listed(folders)} cannot be read together: a file is damaged, or one column "
                f"has several types ({reason})."
            ) from error
        tables[kind] = found.table
        problems.extend(found.problems)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems and any(map(len, tables.values())):
        print("The answer comes from what else the results hold.", file=sys.stderr)
    if "rounds" in tables and not len(tables["rounds"]):
        raise UsageError(f"There is no readable record of a finished round in {_listed(folders)}.")
    return tables


def _holding(kind: str, folders: Sequence[Path]) -> Sequence[Path]:
    """The folders to ask for a kind: an attempt killed at its very start has no curves, and that is no fault."""
    if kind == "rounds":
        return folders
    return [folder for folder in folders if any((folder / records.FOLDER).glob(f"*.{kind}{records.SUFFIX}"))]


def nearest(name: str, known: Iterable[str]) -> str:
    """A phrase that offers the known names most like one that is unknown, or all of them if none is."""
    names = sorted(known)
    return f"nearest: {_listed(difflib.get_close_matches(name, names, 3, 0.5) or names)}"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)
