"""Search spaces as plain data: parameter name -> the values it may take."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from alss_ray.config import Scalar


@dataclass(frozen=True)
class Float:
    """A real number in [low, high], drawn on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Int:
    """A whole number in [low, high], drawn on a logarithmic scale if `log`."""

    low: int
    high: int
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """One of the values."""

    values: tuple[Scalar, ...]


Space = Mapping[str, Float | Int | Choice]
Point = Mapping[str, Scalar]


def corners(space: Space) -> list[dict[str, Scalar]]:
    """Points that hold both ends of every range and every value of every choice: what validation must look at."""

    def values(part: Float | Int | Choice) -> tuple[Scalar, ...]:
        return part.values if isinstance(part, Choice) else (part.low, part.high)

    longest = max((len(values(part)) for part in space.values()), default=0)
    return [
        {name: values(part)[min(k, len(values(part)) - 1)] for name, part in space.items()}
        for k in range(longest)
    ]


def holds(part: Float | Int | Choice, value: Scalar) -> bool:
    """Whether a parameter may take the value."""
    if isinstance(part, Choice):
        return value in part.values
    if isinstance(value, bool) or not isinstance(value, int if isinstance(part, Int) else (int, float)):
        return False
    return part.low <= value <= part.high


def clipped(part: Float | Int | Choice, value: Scalar) -> Scalar:
    """The value that is nearest to `value` in the parameter's range; a choice's first where none is near."""
    if holds(part, value):
        return value
    if isinstance(part, Choice):
        numbers = [v for v in part.values if isinstance(v, (int, float))]
        if isinstance(value, (int, float)) and numbers:
            return min(numbers, key=lambda v: abs(v - value))
        return part.values[0]
    assert isinstance(value, (int, float))
    return min(max(value, part.low), part.high)


def draw(space: Space, chance: random.Random) -> dict[str, Scalar]:
    """A point at random."""

    def one(part: Float | Int | Choice) -> Scalar:
        if isinstance(part, Choice):
            return chance.choice(part.values)
        if part.log:
            value = math.exp(chance.uniform(math.log(part.low), math.log(part.high)))
        else:
            value = chance.uniform(part.low, part.high)
        return round(value) if isinstance(part, Int) else value

    return {name: one(part) for name, part in space.items()}


def describe(space: Space) -> dict[str, str]:
    """A line of text for each parameter, equal for equal spaces."""
    return {
        name: f"{type(part).__name__}{json.dumps(dataclasses.asdict(part), sort_keys=True)}"
        for name, part in space.items()
    }
