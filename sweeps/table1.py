"""Run the paper's protocol (Table 1): random selection, the paper's sampling and its controls, on paired seeds.

A seed gives all arms the same validation set, initialisation and batches, and, but for the arms that synthesise
their first round, the same first round. The controls step as far in a random direction, or not at all, so that a
gain over them is the gradient's. On a task whose oracle labels synthesised images (ivus) SI and fresh draws are
rows, too, and a network trained on the whole pool is the reference. `--generators vae alpha_gan --latent-dims 3 16 64`
has every arm that uses a latent space once for each.
"""

import dataclasses
import itertools
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from alss_ray import cli, reading
from alss_ray.catalogue import find
from alss_ray.config import Experiment, UsageError, component_name
from alss_ray.display import print_table
from alss_ray.materials import materials
from alss_ray.places import Place
from alss_ray.reference import random_selection, whole_pool
from alss_ray.strategies import Si, Snn
from alss_ray.strategies.stepping import Stepping
from alss_ray.sweep import PairedOptions, Sweep, replicated, run_and_show, side_by_side
from alss_ray.table1 import Rows, table1


@dataclass(frozen=True)
class Table1Options(PairedOptions):
    """Where the runs go, what they run on, and which latent spaces."""

    generators: tuple[str, ...] = ()
    """Generators, each a set of arms with what suits it on the task; the one of --generator unless given."""
    latent_dims: tuple[int, ...] = ()
    """Values of n, each a set of arms; that of --latent-dim unless given."""
    controls: tuple[Literal["random", "none"], ...] = ("random", "none")
    """Directions of the arms beside the gradient's: as far in a random one, and not at all."""


def spaces(base: Experiment, options: Table1Options, given: Collection[str]) -> dict[str, Any]:
    """The generators of the arms by what tells them apart, nothing where there is one."""
    generators = [_of_kind(base, name, given) for name in options.generators] or [base.generator]
    dims = options.latent_dims or (base.generator.latent_dim,)
    found = [dataclasses.replace(g, latent_dim=n) for g, n in itertools.product(generators, dims)]
    if len(found) == 1:
        return {"": found[0]}
    return {f", {component_name(generator)} n = {generator.latent_dim}": generator for generator in found}


def _of_kind(base: Experiment, name: str, given: Collection[str]) -> Any:
    """A generator of this name: the base's where it is of that kind, else what suits the task and what was given."""
    kind = find("generator", name)
    if isinstance(base.generator, kind):
        return base.generator
    own = {f.name for f in dataclasses.fields(kind)}
    suited = {key: value for key, value in cli.suited_values(base.task, name).items() if key in own}
    common = {key: value for key, value in vars(base.generator).items() if key in own and key in given}
    return kind(**{**suited, **common})


def arms(base: Experiment, options: Table1Options, given: Collection[str] = ()) -> dict[str, Experiment]:
    """The rows of the table, by name; `given` names the options that stood on the command line."""
    alpha = base.strategy.alpha
    snn = base.strategy if isinstance(base.strategy, Snn) else Snn(alpha)
    if materials(base.task).data.label_folder is None:
        strategies = {
            "SNN": snn,
            "SNN, random direction": dataclasses.replace(snn, direction="random"),
            "SNN, α = 0": dataclasses.replace(snn, direction="none"),
        }
    else:
        strategies = {
            "fresh z": Si(direction="none", stepped_from="fresh"),
            "SI": Si(alpha),
            "SI, random direction": Si(alpha, "random"),
            "SNN": snn,
        }
    wanted = {name: s for name, s in strategies.items() if s.direction in ("gradient", *options.controls)}
    return {"random": random_selection(base)} | {
        f"{name}{space}": dataclasses.replace(base, strategy=strategy, generator=generator)
        for space, generator in spaces(base, options, given).items()
        for name, strategy in wanted.items()
    }


def show(folder: Place, base: Experiment, made: Mapping[str, Experiment], seeds: range) -> None:
    """Print the test metric's mean and standard deviation over the seeds, beside the paper's rows."""
    rows = reading.read("rounds", [folder]).table.to_pylist()

    def of(arm: Experiment) -> Rows:
        wanted = {experiment.identity for experiment in replicated(arm, seeds)}
        return [row for row in rows if row["experiment"] in wanted]

    known = whole_pool(base, materials(base.task).data)
    dims = sorted({arm.generator.latent_dim for arm in made.values() if arm.generator is not None})
    table = table1(
        {name: of(arm) for name, arm in made.items()},
        of(known) if known else (),
        f"n = {', '.join(map(str, dims))}, α = {base.strategy.alpha}, {base.iterations} iterations a round.",
    )
    print_table(table.title, table.columns, table.body, table.caption)


def work() -> int:
    """Parse, run, print."""
    parsed = cli.parse(Table1Options(), __doc__ or "", sys.argv[1:], "python sweeps/table1.py")
    base, options = parsed.experiment, parsed.options
    if not isinstance(base.strategy, Stepping) or base.strategy.direction != "gradient":
        raise UsageError(
            "Table 1 makes its own arms; give --alpha and the like, but no other --strategy or --direction."
        )
    seeds = range(base.seed, base.seed + options.seeds)
    known = whole_pool(base, materials(base.task).data)
    made = arms(base, options, parsed.given)
    listed = side_by_side([*made.values(), *([known] if known else [])], seeds)
    sweep = Sweep("table1", options, base, experiments=listed)
    return run_and_show(sweep, lambda outcome: show(outcome.folder, base, made, seeds))


if __name__ == "__main__":
    sys.exit(cli.guarded(work))
