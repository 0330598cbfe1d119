"""Command lines from dataclasses, through tyro.

The components are named first (`--task`, `--strategy`, `--generator`), and then their own options join those of
the experiment: `--help` shows what the named ones take.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import tyro

from alss_ray.catalogue import find
from alss_ray.config import ROLES, Experiment, ExperimentFailed, Settings, UsageError, Waiting
from alss_ray.places import Place

WAITING = 3
"""Exit status where labels that people are asked for are missing: no failure, --resume goes on."""

Options = TypeVar("Options")
TYPES = tyro.constructors.ConstructorRegistry()
"""What tyro is to know beside Python's own types."""


@dataclass(frozen=True)
class Components:
    """What the experiment is made of: a shipped name, or your own class as package.module:Name."""

    task: str = "digits"
    """What is learnt: digits, ivus, mnist, cifar10, or your own images as folder or parquet."""
    strategy: str = "snn"
    """Who is labelled next: random, snn or si; for classes margin, least_confidence, entropy, bald, badge,
    cluster_margin or latent_margin; for maps committee, gradient_length, lcmd or si_committee; for both core_set,
    latent_core_set, typiclust or si_core_set. A task may suggest its own."""
    generator: str = "vae"
    """The generative model of stage 1: vae or alpha_gan. Strategies without a latent space do not use it."""


@dataclass(frozen=True)
class Parsed(Generic[Options]):
    """A command line that was understood."""

    options: Options
    """The script's own options."""
    experiment: Experiment
    given: frozenset[str]
    """Names of the fields that stood on the command line."""


def parse(
    options: Options,
    description: str,
    argv: Sequence[str],
    prog: str,
    components: Components = Components(),
    adjust: Callable[[Options, Settings], Settings] = lambda options, settings: settings,
    purpose: str = "",
    idle: Collection[str] = (),
) -> Parsed[Options]:
    """Read a command line made of a script's own options and an experiment.

    Args:
        options: the script's own options with their defaults; its class is a dataclass named ...Options.
        components: the names to start from.
        adjust: what the script's own options change in the experiment's settings.
        purpose: where a task's `defaults` hold a mapping under this name, its values go before the others; so do
            those under the name of the generator.

    Raises:
        UsageError: a component that does not exist, or values that do not fit together.
        SystemExit: status 2 for options that do not exist or have the wrong type, 0 after `--help`.
    """
    named = _named_components(argv, components)
    if not _given(argv, "strategy"):
        suited_strategy = getattr(find("task", named.task), "defaults", {}).get("strategy", named.strategy)
        named = dataclasses.replace(named, strategy=suited_strategy)
    kinds = {role: find(role, getattr(named, role)) for role in ROLES}
    if not kinds["strategy"].needs_embedding:  # type: ignore[attr-defined]
        del kinds["generator"]
    suited = suited_values(kinds["task"], named.generator, purpose)
    own_part = type(options).__name__.removesuffix("Options").lower()
    parts = {own_part: type(options), "components": Components, "experiment": Settings, **kinds}
    shown = {name: kind if name in kinds else _without(idle, kind) for name, kind in parts.items()}
    fields: list[Any] = []
    taken: set[str] = set()
    for name, kind in parts.items():
        own = {f.name for f in dataclasses.fields(kind)}
        if clash := own & taken:
            raise UsageError(
                f"The {name} has an option {min(clash)!r} that the command line has already; rename it."
            )
        taken |= own
        if name in ROLES and (unset := [f.name for f in dataclasses.fields(kind) if not _has_default(f)]):
            raise UsageError(
                f"The {name}'s option {unset[0]!r} has no default value; give it one in its class."
            )
        defaults = {key: value for key, value in suited.items() if key in own}
        base: Any = {own_part: options, "components": named}.get(name) or kind()
        default = base if kind is Components else dataclasses.replace(base, **defaults)
        fields.append((name, shown[name], dataclasses.field(default=_as(shown[name], default))))
    everything = dataclasses.make_dataclass("Everything", fields, frozen=True)
    read: Any = tyro.cli(
        everything,
        args=list(argv),
        prog=prog,
        description=description,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff),
        registry=TYPES,
    )
    chosen = getattr(read, own_part)
    settings = adjust(chosen, read.experiment)
    experiment = Experiment(**vars(settings), **{role: _located(getattr(read, role)) for role in kinds})
    flags = {word.split("=")[0] for word in argv if word.startswith("--")}
    given = frozenset(flag.removeprefix("--").removeprefix("no-").replace("-", "_") for flag in flags)
    return Parsed(chosen, experiment, given)


def suited_values(task: Any, generator: str, purpose: str = "") -> dict[str, Any]:
    """The values that suit a task, or its class, and the generator of this name: those of `Task.defaults`."""
    suited: dict[str, Any] = dict(getattr(task, "defaults", {}))
    suited |= suited.get(generator, {}) | suited.get(purpose, {})
    return {name: value for name, value in suited.items() if not isinstance(value, Mapping)}


def _without(idle: Collection[str], kind: type) -> type:
    """A dataclass like `kind` for which help does not show the idle fields."""
    hints, suppress = typing.get_type_hints(kind), typing.cast(Any, tyro.conf.Suppress)
    hidden: list[Any] = [
        (f.name, suppress[hints[f.name]], dataclasses.field(default=f.default))
        for f in dataclasses.fields(kind)
        if f.name in idle
    ]
    if not hidden:
        return kind
    made = dataclasses.make_dataclass(kind.__name__, hidden, bases=(kind,), frozen=True)
    made.__doc__ = kind.__doc__
    return made


def _as(kind: type, value: Any) -> Any:
    """The value as an object of a class that has the same fields."""
    return value if type(value) is kind else kind(**vars(value))


@TYPES.primitive_rule
def _place(
    info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec[Place] | None:
    """A path or a URI on the command line."""
    if info.type is not Place:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH|URI",
        instance_from_str=lambda words: Place(words[0]),
        is_instance=lambda value: isinstance(value, Place),
        str_from_instance=lambda place: [str(place)],
    )


def _given(argv: Sequence[str], name: str) -> bool:
    return any(word == f"--{name}" or word.startswith(f"--{name}=") for word in argv)


def _named_components(argv: Sequence[str], default: Components) -> Components:
    """The three names alone, before it is known which other options there are."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for role in ROLES:
        first.add_argument(f"--{role}", default=getattr(default, role))
    try:
        names, _ = first.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name} needs a name behind it.") from error
    return Components(**vars(names))


def _has_default(f: dataclasses.Field[Any]) -> bool:
    return f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING


def _located(component: Any) -> Any:
    """The component with absolute paths: workers run in folders of their own."""
    located: dict[str, Path | Place] = {}
    for f in dataclasses.fields(component):
        value = getattr(component, f.name)
        if isinstance(value, Path):
            located[f.name] = value.expanduser().absolute()
        elif isinstance(value, Place):
            located[f.name] = value.absolute()
    return dataclasses.replace(component, **located)


def guarded(work: Callable[[], int]) -> int:
    """Run a script's work and return its exit status: what stops it becomes a sentence.

    1 for an experiment that failed, 2 for bad input, 3 for labels that people have yet to give, 130 for Ctrl-C.
    """

    try:
        return work()
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except ExperimentFailed as error:
        print(error, file=sys.stderr)
        return 1
    except Waiting as waiting:
        print(f"{waiting}\nThen {waiting.then}.", file=sys.stderr)
        return WAITING
    except KeyboardInterrupt:
        return 130
