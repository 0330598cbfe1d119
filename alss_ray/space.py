"""Search spaces as plain data: parameter name -> the values it may take."""

from __future__ import annotations

import dataclasses
import json
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
    """Points that hold the smallest and the largest value of every parameter: what validation must look at."""

    def ends(part: Float | Int | Choice) -> tuple[Scalar, Scalar]:
        if isinstance(part, Choice):
            ordered = sorted(part.values, key=str) if isinstance(part.values[0], str) else sorted(part.values)  # type: ignore[type-var]
            return ordered[0], ordered[-1]
        return part.low, part.high

    return [{name: ends(part)[end] for name, part in space.items()} for end in (0, 1)]


def describe(space: Space) -> dict[str, str]:
    """A line of text for each parameter, equal for equal spaces."""
    return {
        name: f"{type(part).__name__}{json.dumps(dataclasses.asdict(part), sort_keys=True)}"
        for name, part in space.items()
    }
