"""A results folder: what lies where, and the manifest that says whose it is.

manifest.json    what was asked for, with versions, commit and hardware
records/         Arrow streams (alss_ray.records)
state/           checkpoints of the experiments, by identity
study.db         the Optuna study of a search
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alss_ray import provenance
from alss_ray.config import UsageError
from alss_ray.files import StoreError
from alss_ray.places import Place

MANIFEST = "manifest.json"
STATE = "state"
STUDY = "study.db"


def default_folder(name: str) -> Path:
    """results/<name>-<date>-<time> below the working folder."""
    return Path("results") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def examine(folder: Path | Place, asked: Mapping[str, Any], resume: bool) -> bool:
    """Whether the folder is new to this work; False where it holds the same work and that is to be resumed.

    Args:
        asked: plain data that must be the same when the work is resumed.

    Raises:
        UsageError: the folder holds other work, or the same work without `resume`, or nothing to resume.
    """
    folder = Place(folder)
    path = folder / MANIFEST
    asked = json.loads(json.dumps(asked))  # as it was read back: tuples are lists
    if path.exists():
        try:
            before = json.loads(path.read().decode())["asked"]
            kind, name = before["kind"], before["name"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is damaged ({error}); choose another folder.") from error
        differences = _differences(before, asked)
        if resume and differences:
            raise UsageError(f"{folder} cannot be resumed with other settings: {'; '.join(differences)}.")
        if not resume and differences:
            raise UsageError(f"{folder} holds the results of another {kind}, {name}; choose another folder.")
        if not resume:
            raise UsageError(
                f"{folder} holds this {kind} already; add --resume to go on with it, or choose another folder."
            )
        return False
    if resume:
        raise UsageError(f"There is nothing to resume in {folder}: it has no {MANIFEST}; leave --resume out.")
    if not folder.is_vacant():
        raise UsageError(f"{folder} exists and holds other things; choose a folder that is new or empty.")
    return True


def claim(folder: Path | Place, asked: Mapping[str, Any], resume: bool) -> None:
    """Make the folder this work's own by a manifest that says what was asked for; for the rest see `examine`.

    Raises:
        UsageError: as `examine`, or the folder cannot be written to.
    """
    if not examine(folder, asked, resume):
        return
    about = {
        "asked": dict(asked),
        "command": sys.argv,
        "started_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        **provenance.columns(),
        "versions": json.loads(provenance.versions()),
    }
    try:
        (Place(folder) / MANIFEST).write((json.dumps(about, indent=2) + "\n").encode())
    except StoreError:
        raise
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written to ({error.strerror}); choose another folder."
        ) from error


def _differences(before: Any, now: Any, where: str = "") -> list[str]:
    """One phrase for each value that differs, naming it."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        parts = [_differences(before.get(k), now.get(k), f"{where}.{k}" if where else str(k)) for k in keys]
        return [text for part in parts for text in part]
    return [] if before == now else [f"{where} was {before}, now {now}"]
