"""An experiment as plain data: frozen dataclasses, validated when made, with a stable hash.

A *component* (task, strategy, generator) is itself a frozen dataclass whose fields are its options, so one
description serves the command line, the search space, the hash and the columns of the records.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

Scalar = bool | int | float | str | None
ROLES = ("task", "strategy", "generator")


class UsageError(Exception):
    """Bad input: the message is one sentence that names the value and the remedy. Shells exit with status 2."""


class ExperimentFailed(RuntimeError):
    """An experiment cannot go on: the message is one sentence. What was recorded stays."""


class Waiting(Exception):
    """Labels that people are asked for are not there yet. No failure: what is done is saved, and can be gone on with.

    The message says how many are missing, and where to give them. Shells exit with status 3.
    """

    def __init__(self, message: str, keys: Collection[str], look: Callable[[], Waiting | None]) -> None:
        """
        Args:
            keys: the images that have no label yet, by their keys in the label cache.
            look: says what is missing of them now, None for nothing.
        """
        super().__init__(message)
        self.keys, self.look = frozenset(keys), look
        self.then = "give the same command again"
        """How to go on when they are there."""


def local(**keywords: Any) -> Any:
    """A dataclass field that says where something lies, not what it is: it stays out of the identity."""
    return field(metadata={"identity": False}, **keywords)


def late(default: Any) -> Any:
    """A dataclass field that joins the identity only where it differs from its default: the identities, and columns, of
    experiments from before there was such a field stay as they were."""
    return field(default=default, metadata={"identity": "unless default"})


def component_name(component: Any) -> str:
    """The name by which a component is found again: a short one for those that are shipped, else
    `package.module:Name`, also where a user's class derives from a shipped one."""
    kind = component if isinstance(component, type) else type(component)
    if kind.__module__.startswith("alss_ray.") and "name" in vars(kind):
        return vars(kind)["name"]
    return f"{kind.__module__}:{kind.__qualname__}"


def imported(role: str, name: str) -> Any:
    """What `package.module:Name` names, looked for also in the folder where the person works.

    Raises:
        UsageError: it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        if "" not in sys.path:
            sys.path.insert(0, "")
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UsageError(
            f"The {role} {name!r} cannot be imported ({error}); give it as package.module:Name."
        ) from error


def positive(component: str, **values: float) -> None:
    """Raise UsageError unless every value is a finite number above zero."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{component}: {name} is {value}; give a finite number above 0.")


def at_least(component: str, least: int, **values: int) -> None:
    """Raise UsageError unless every value is at least `least`."""
    for name, value in values.items():
        if value < least:
            raise UsageError(f"{component}: {name} is {value}; give {least} or more.")


@dataclass(frozen=True)
class Settings:
    """The fields of an experiment that are not a component's: rounds, labels, training and the seed."""

    round_size: int = 20
    """J: labels bought in each round."""
    label_budget: int = 300
    """Training labels bought in all; the last round takes what is left of it."""
    validation_share: float = 0.5
    """Validation labels, as a share of the label budget. They are bought too, and written down beside it."""
    iterations: int = 150
    """Training steps of the network in each round."""
    batch_size: int = 64
    """Samples in a training step."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    retrain: bool = False
    """Start each round from a fresh network instead of the last round's weights (the paper warm-starts)."""
    evaluate_every: int = 50
    """Iterations between the validations inside a round (the drop and rebound of Figure 3); 0 for none."""
    score_limit: int = 0
    """Unlabelled images that a strategy may have looked at by networks in each round, as a large pool forces one to
    limit; pool strategies get so many at random, 0 for all."""
    decoded_beside: bool = late(False)
    """Train the network also on G(E(x)) of every labelled sample x, with x's label: twice the images for as many
    labels. For strategies that have a latent space."""
    bfloat16: bool = late(False)
    """Run the network in bfloat16 throughout, evaluation and gradients in latent space included: faster on CPUs with
    AMX. Without it a CPU computes in float32, and a GPU trains in bfloat16 and does everything else in float32."""
    seed: int = 0
    """The one seed; every random stream is derived from it by name."""

    def __post_init__(self) -> None:
        at_least("experiment", 1, round_size=self.round_size, label_budget=self.label_budget,
                 iterations=self.iterations, batch_size=self.batch_size)  # fmt: skip
        at_least(
            "experiment", 0, evaluate_every=self.evaluate_every, score_limit=self.score_limit, seed=self.seed
        )
        positive("experiment", learning_rate=self.learning_rate, validation_share=self.validation_share)


@dataclass(frozen=True, kw_only=True)
class Experiment(Settings):
    """One progressive-training experiment (Mo et al. 2020, Algorithms 1 and 2)."""

    task: Any
    """What is learnt: data, network, loss, metric and oracle (tasks/base.py)."""
    strategy: Any
    """Which samples are labelled next (strategies/base.py)."""
    generator: Any = None
    """The generative model of stage 1 (generators/base.py); None where the strategy needs no latent space."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_budget < self.round_size:
            raise UsageError(
                f"The label budget of {self.label_budget} is below one round of {self.round_size}; "
                "raise --label-budget or lower --round-size."
            )
        if 0 < self.score_limit < self.round_size:
            raise UsageError(
                f"--score-limit is {self.score_limit}, fewer than the {self.round_size} that a round asks for; "
                "raise it, or give 0 for all."
            )
        if self.decoded_beside and self.generator is None:
            raise UsageError(
                f"--decoded-beside needs a generator, and the strategy {component_name(self.strategy)} has none; leave "
                "it out, or choose one with a latent space, such as snn."
            )

    @property
    def validation_size(self) -> int:
        """Number of validation labels."""
        return max(1, round(self.validation_share * self.label_budget))

    @property
    def rounds(self) -> int:
        """Number of rounds until the label budget is spent."""
        return -(-self.label_budget // self.round_size)

    def components(self) -> dict[str, Any]:
        """Role -> component, without those that are None."""
        return {role: part for role in ROLES if (part := getattr(self, role)) is not None}

    @property
    def identity(self) -> str:
        """Hash of everything that decides the result, seed included: 12 hexadecimal digits."""
        return _digest({name: value for name, _, value in _leaves(self)})

    @property
    def configuration(self) -> str:
        """The identity without the seed, so that replicates of one setting share it."""
        return _digest({name: value for name, _, value in _leaves(self) if name != "seed"})


def _digest(values: dict[str, Scalar]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def digest(component: Any, **context: Scalar) -> str:
    """Hash of one component's options and of what it depends on: 16 hexadecimal digits."""
    values = {name: value for name, _, value in _options(component, identity_only=True)}
    plain = json.dumps({"component": component_name(component), **values, **context}, sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def _leaves(experiment: Experiment, identity_only: bool = True) -> Iterator[tuple[str, type, Scalar]]:
    """(name, type, value) of every field, a component's name standing before its options."""
    seen: set[str] = set()
    for f in dataclasses.fields(experiment):
        if f.name in ROLES:
            part = getattr(experiment, f.name)
            name = component_name(part) if part is not None else None
            leaves: list[tuple[str, type, Scalar]] = [(f.name, str, name)]
            if part is not None:
                leaves += _options(part, identity_only)
        else:
            if identity_only and not _counts(f, getattr(experiment, f.name)):
                continue
            kind = scalar_type(typing.get_type_hints(Experiment)[f.name])
            leaves = [(f.name, kind, _plain(getattr(experiment, f.name), kind))]
        for name, kind, value in leaves:
            if name in seen:
                raise UsageError(
                    f"Two parts of this experiment have a field {name!r}; rename the component's own."
                )
            seen.add(name)
            yield name, kind, value


def _options(component: Any, identity_only: bool) -> list[tuple[str, type, Scalar]]:
    """(name, type, value) of a component's own fields."""
    hints = typing.get_type_hints(type(component))
    kinds = {
        f.name: scalar_type(hints[f.name])
        for f in dataclasses.fields(component)
        if not identity_only or _counts(f, getattr(component, f.name))
    }
    return [(name, kind, _plain(getattr(component, name), kind)) for name, kind in kinds.items()]


def _counts(f: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a field is part of the identity."""
    counts = f.metadata.get("identity", True)
    return value != f.default if counts == "unless default" else bool(counts)


def flatten(experiment: Experiment, identity_only: bool = True) -> dict[str, Scalar]:
    """Every field of the experiment and its components by name."""
    return {name: value for name, _, value in _leaves(experiment, identity_only)}


def column_types(experiment: Experiment) -> dict[str, type]:
    """Name -> bool, int, float or str for every field: the configuration columns of the records."""
    return {name: kind for name, kind, _ in _leaves(experiment)}


def scalar_type(hint: Any) -> type:
    """The plain type behind an annotation: Optional and Literal are looked through, paths are text."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is typing.Literal:
        hint = type(typing.get_args(hint)[0])
    return hint if hint in (bool, int, float, str) else str


def _plain(value: Any, kind: type) -> Scalar:
    """The value as its type writes it: 1 and 1.0 are one number to a float field."""
    return None if value is None else kind(value)
