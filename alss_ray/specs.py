"""What people write on a command line about an experiment's fields: `alpha=0.3`, `iterations=int(50,400)`."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass

from alss_ray.config import ROLES, Experiment, Scalar, Settings, UsageError, scalar_type
from alss_ray.space import Choice, Float, Int, Space, holds

FORMS = "int(LOW,HIGH), float(LOW,HIGH), either with ,log behind HIGH, or choice(A,B,...)"
NOT_SEARCHED = {
    "seed": "it belongs to chance; give --seed and --replicates",
    "label_budget": "results are compared at one budget; give --label-budget",
    "validation_share": "the objective is measured on the validation set; give --validation-share",
}


@dataclass(frozen=True)
class Field:
    """One field of an experiment or of a component."""

    name: str
    owner: str
    """'experiment', or the role of the component."""
    kind: type
    allowed: tuple[Scalar, ...]
    """The values it may take, where those can be listed."""

    def value(self, text: str) -> Scalar:
        """What the text means as a value of this field.

        Raises:
            UsageError: it means nothing.
        """
        text = text.strip().strip("'\"")
        if self.allowed:
            if text.lower() not in (known := {str(v).lower(): v for v in self.allowed}):
                raise UsageError(f"{self.name} cannot be {text!r}; it can be {', '.join(known)}.")
            return known[text.lower()]
        if self.kind is str:
            return text
        try:
            number = self.kind(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            kind = "a whole number" if self.kind is int else "a finite number"
            raise UsageError(f"{self.name} cannot be {text!r}; give {kind}.")
        return number


def fields(experiment: Experiment) -> dict[str, Field]:
    """Every field of the experiment and its components by name."""
    owners = {"experiment": Settings} | {role: type(part) for role, part in experiment.components().items()}
    found = {}
    for owner, kind in owners.items():
        hints = typing.get_type_hints(kind)
        for f in dataclasses.fields(kind):
            plain = scalar_type(hints[f.name])
            literal = typing.get_origin(hints[f.name]) is typing.Literal
            allowed = typing.get_args(hints[f.name]) if literal else (True, False) if plain is bool else ()
            found[f.name] = Field(f.name, owner, plain, allowed)
    return found


def fixed(texts: Sequence[str], experiment: Experiment) -> dict[str, Scalar]:
    """What `NAME=VALUE` texts say.

    Raises:
        UsageError: no such field, no such value, or a field named twice.
    """
    return _each("--fix", texts, experiment, lambda field, text: field.value(text))


def searched(texts: Sequence[str], experiment: Experiment) -> dict[str, Float | Int | Choice]:
    """The parts of a search space that `NAME=RANGE` texts describe.

    Raises:
        UsageError: no such field, a range that means nothing there, or a field that cannot be searched.
    """
    return _each("--search", texts, experiment, _part)


def point(text: str, space: Space, experiment: Experiment) -> dict[str, Scalar]:
    """The point `NAME=VALUE,NAME=VALUE` of a search space, or a part of one.

    Raises:
        UsageError: a parameter that is not searched, or a value outside its range.
    """
    given = _each("--try-first", text.split(","), experiment, lambda field, value: field.value(value))
    for name, value in given.items():
        if name not in space:
            raise UsageError(
                f"--try-first names {name}, which is not searched; searched are {', '.join(space)}."
            )
        if not holds(space[name], value):
            raise UsageError(f"--try-first {name}={value} lies outside the search space ({space[name]}).")
    return given


T = typing.TypeVar("T")


def _each(
    option: str, texts: Sequence[str], experiment: Experiment, read: typing.Callable[[Field, str], T]
) -> dict[str, T]:
    known, found = fields(experiment), {}
    for text in texts:
        name, sign, rest = (part.strip() for part in text.partition("="))
        name = name.replace("-", "_")
        if not sign or not rest:
            raise UsageError(f"{option} {text!r} is not of the form NAME=...; for example alpha=0.3.")
        if name in ROLES:
            raise UsageError(f"{option} {text!r}: the {name} decides which fields there are; give --{name}.")
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(sorted(known))}."
            raise UsageError(f"{option} {text!r}: this experiment has no field {name!r}; {hint}")
        if name in found:
            raise UsageError(f"{option} names {name} twice; leave one out.")
        found[name] = read(known[name], rest)
    return found


def _part(field: Field, text: str) -> Float | Int | Choice:
    """The range that a text describes, for this field."""
    name = field.name
    if field.owner == "task":
        raise UsageError(
            f"--search {name}: all trials of a sweep share one task; fix it with --{name.replace('_', '-')}."
        )
    if name in NOT_SEARCHED:
        raise UsageError(f"--search {name}: {NOT_SEARCHED[name]}.")
    form = re.fullmatch(r"(int|float|choice)\((.*)\)", text)
    if form is None:
        raise UsageError(f"--search {name}={text} is none of {FORMS}.")
    kind, words = form[1], [word.strip() for word in form[2].split(",")]
    if kind == "choice":
        values = tuple(dict.fromkeys(field.value(word) for word in words))
        if len(values) < 2:
            raise UsageError(
                f"--search {name}={text} leaves no choice; give two values or more, or --fix it."
            )
        return Choice(values)
    log = words[-1] == "log"
    if len(words) != 2 + log:
        raise UsageError(f"--search {name}={text} is none of {FORMS}.")
    if field.kind is not {"int": int, "float": float}[kind]:
        suited = {int: "int(LOW,HIGH)", float: "float(LOW,HIGH)"}.get(field.kind, "choice(A,B,...)")
        raise UsageError(f"--search {name}={text}: {name} takes {suited}.")
    low, high = (field.value(word) for word in words[:2])
    assert isinstance(low, (int, float)) and isinstance(high, (int, float))  # noqa: PT018
    if low >= high or (log and low <= 0):
        needed = "0 < LOW < HIGH" if log else "LOW < HIGH"
        raise UsageError(f"--search {name}={text} is empty; it needs {needed}.")
    return Int(int(low), int(high), log) if kind == "int" else Float(low, high, log)
