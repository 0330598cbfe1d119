"""Run the paper's protocol (Table 1): random selection, the paper's sampling and its controls, on paired seeds.

A seed gives all arms the same validation set, initialisation and batches, and, but for the arms that synthesise
their first round, the same first round. The controls step as far in a random direction, or not at all, so that a
gain over them is the gradient's. On a task whose oracle labels synthesised images (ivus) SI and fresh draws are
rows, too, and a network trained on the whole pool is the reference.
"""

import dataclasses
import sys

from alss_ray import cli, reading
from alss_ray.config import Experiment, UsageError
from alss_ray.display import print_table
from alss_ray.materials import materials
from alss_ray.places import Place
from alss_ray.reference import whole_pool
from alss_ray.strategies import Random, Si, Snn
from alss_ray.strategies.stepping import Stepping
from alss_ray.sweep import PairedOptions, Sweep, replicated, run_and_show, side_by_side
from alss_ray.table1 import Rows, table1


def arms(base: Experiment) -> dict[str, Experiment]:
    """The rows of the table, by name."""
    alpha = base.strategy.alpha
    snn = base.strategy if isinstance(base.strategy, Snn) else Snn(alpha)
    random = dataclasses.replace(base, strategy=Random(), generator=None)
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
    return {"random": random} | {
        name: dataclasses.replace(base, strategy=strategy) for name, strategy in strategies.items()
    }


def show(folder: Place, base: Experiment, seeds: range) -> None:
    """Print the test metric's mean and standard deviation over the seeds, beside the paper's rows."""
    rows = reading.read("rounds", [folder]).table.to_pylist()

    def of(arm: Experiment) -> Rows:
        wanted = {experiment.identity for experiment in replicated(arm, seeds)}
        return [row for row in rows if row["experiment"] in wanted]

    known = whole_pool(base, materials(base.task).data)
    made = table1(
        {name: of(arm) for name, arm in arms(base).items()},
        of(known) if known else (),
        f"n = {base.generator.latent_dim}, α = {base.strategy.alpha}, {base.iterations} iterations a round.",
    )
    print_table(made.title, made.columns, made.body, made.caption)


def work() -> int:
    """Parse, run, print."""
    parsed = cli.parse(PairedOptions(), __doc__ or "", sys.argv[1:], "python sweeps/table1.py")
    base, options = parsed.experiment, parsed.options
    if not isinstance(base.strategy, Stepping) or base.strategy.direction != "gradient":
        raise UsageError(
            "Table 1 makes its own arms; give --alpha and the like, but no other --strategy or --direction."
        )
    seeds = range(base.seed, base.seed + options.seeds)
    known = whole_pool(base, materials(base.task).data)
    listed = side_by_side([*arms(base).values(), *([known] if known else [])], seeds)
    sweep = Sweep("table1", options, base, experiments=listed)
    return run_and_show(sweep, lambda outcome: show(outcome.folder, base, seeds))


if __name__ == "__main__":
    sys.exit(cli.guarded(work))
