"""The study's file, also where the results lie on an object store, and the end of a sweep whose store is gone."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from ray import tune

from alss_ray import results
from alss_ray.files import StoreError, told
from alss_ray.places import Place

LOST = "lost"  # in a trial's report: the sentence that says why what it did could not be kept


class StudyFile:
    """The Optuna studies of a results folder, in SQLite, which needs a file of this machine.

    On an object store the folder holds a copy: it is fetched first, and `keep` puts it back after every change
    that a resumed search must know of. One driver at a time works on a study.
    """

    def __init__(self, folder: Path | Place) -> None:
        """Open the folder's studies, or new ones; raises StoreError where the store does not answer."""
        self._place = Place(folder) / results.STUDY
        path = self._place.local
        if path is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="alss-ray-")  # goes with this object
            path = Path(self._scratch.name) / results.STUDY
            with contextlib.suppress(FileNotFoundError):
                path.write_bytes(self._place.read())
        self._path = path
        self.storage = optuna.storages.RDBStorage(f"sqlite:///{path}")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher into its state, which is never read here

    def keep(self) -> None:
        """Have the results folder hold what the study holds now; raises StoreError."""
        if self._place.local is not None:
            return
        copy = self._path.with_name("copy.db")
        with (
            contextlib.closing(sqlite3.connect(self._path)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        with told("The study", self._place.parent):
            self._place.write(copy.read_bytes())


class StopWhenLost(tune.Stopper):
    """Ends a sweep when what a trial does cannot be kept: every other trial would come to the same."""

    def __init__(self) -> None:
        self.sentence = ""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.sentence = self.sentence or result.get(LOST, "")
        return False

    def stop_all(self) -> bool:
        return bool(self.sentence)


@contextlib.contextmanager
def kept(folder: Path | Place, stopper: StopWhenLost) -> Iterator[None]:
    """Raise StoreError, at the end, for what could not be kept in a results folder by a trial or by the study."""
    try:
        yield
    except (OSError, StorageInternalError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StoreError(
            f"The sweep cannot go on in {folder} ({reason}); make room there and go on with --resume."
        ) from error
    if stopper.sentence:
        raise StoreError(stopper.sentence)
