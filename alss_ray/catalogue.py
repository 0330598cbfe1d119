"""Components by name: the shipped ones, and a user's own as `package.module:Name`."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alss_ray.config import ROLES, Experiment, Scalar, Settings, UsageError, imported
from alss_ray.generators import GENERATORS
from alss_ray.places import Place
from alss_ray.strategies import STRATEGIES
from alss_ray.tasks import TASKS

PARTS = {
    "task": ("load", "network", "loss", "score", "guess", "encode", "extra_scores"),
    "strategy": ("propose", "needs_embedding", "makes_images", "fills_first_round", "learns", "committee"),
    "generator": ("modules", "train"),
}
"""What a class must have to fill a role."""

SHIPPED: dict[str, dict[str, type]] = {"task": TASKS, "strategy": STRATEGIES, "generator": GENERATORS}


def find(role: str, name: str) -> type:
    """The class of a component ('task', 'strategy' or 'generator').

    Raises:
        UsageError: no such name, no such module, or not a dataclass.
    """
    known = SHIPPED[role]
    if name in known:
        return known[name]
    if ":" not in name:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"There is no {role} {name!r}; {hint}The {role} can be {', '.join(sorted(known))}, "
            "or your own class as package.module:Name."
        )
    found = imported(role, name)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise UsageError(f"The {role} {name!r} is not a dataclass; its fields are to be its options.")
    if missing := [part for part in PARTS[role] if not hasattr(found, part)]:
        raise UsageError(f"The class {name!r} is no {role}: it lacks {', '.join(missing)}.")
    return found


def experiment_from(values: Mapping[str, Scalar]) -> Experiment:
    """The experiment that `config.flatten(experiment, identity_only=False)` describes.

    Raises:
        UsageError: an unknown component, a field that no part of the experiment has, or a value it refuses.
    """
    kinds = {role: find(role, str(values[role])) for role in ROLES if values.get(role) is not None}
    parts = {role: kind(**_options(kind, values)) for role, kind in kinds.items()}
    known = {f.name for kind in (Settings, *kinds.values()) for f in dataclasses.fields(kind)}
    if unknown := set(values) - known - set(ROLES):
        raise UsageError(
            f"No part of this experiment has a field {min(unknown)!r}; it has {', '.join(sorted(known))}."
        )
    return Experiment(**parts, **_options(Settings, values))


def _options(kind: type, values: Mapping[str, Scalar]) -> dict[str, Any]:
    """The values that are fields of a dataclass, text made into paths and places where those are wanted."""
    hints = typing.get_type_hints(kind)
    options: dict[str, Any] = {f.name: values[f.name] for f in dataclasses.fields(kind) if f.name in values}
    for name, value in options.items():
        for kind in (Path, Place):
            if value is not None and kind in (hints[name], *typing.get_args(hints[name])):
                options[name] = kind(value)
    return options
