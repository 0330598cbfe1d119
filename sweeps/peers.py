"""The league of all strategies that suit a task, on paired seeds: the paper's, its controls and the peers.

A seed gives all arms the same validation set, initialisation and batches, and all arms that label real samples the same
first round; proposals draw from a stream apart from those. Options of the experiment count for every arm that has them
(`--latent-dim 8`). With --tune every arm is tuned at the same cost, on validation alone and on seeds apart, and --tuned
gives each arm of the league what was found for it.
"""

import dataclasses
import sys
from dataclasses import dataclass

from alss_ray import cli, reading, tuning
from alss_ray.config import Experiment, UsageError, flatten
from alss_ray.league import show_league
from alss_ray.materials import materials, suits
from alss_ray.places import Place
from alss_ray.strategies import STRATEGIES
from alss_ray.sweep import PairedOptions, Sweep, replicated, run_and_show, side_by_side

BASELINE = "random"
CONTROLS = {"snn": {"direction": "random"}, "si": {"direction": "random"}}
"""Strategies that get a second arm, with these options."""


@dataclass(frozen=True)
class PeersOptions(PairedOptions):
    """Where the league's runs go and what they run on."""

    arms: str | None = None
    """Strategies that take part beside random, separated by commas; all that suit the task unless given."""
    tune: int = 0
    """Instead of the league, try so many settings of every arm on --seeds tuning seeds: the arm as it stands, then
    drawn ones of its learning rate and its own options."""
    tuned: Place | None = None
    """Results folder of such a tuning on this task: every arm gets what was best for it there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tune == 1 or self.tune < 0:
            raise UsageError(
                f"--tune is {self.tune}; give 2 or more settings to choose from, or 0 for the league."
            )
        if self.tune and self.tuned:
            raise UsageError("--tune finds settings and --tuned uses them; give one of the two.")


def arms(base: Experiment, wanted: str | None) -> dict[str, Experiment]:
    """The arms by name, the baseline first.

    Raises:
        UsageError: a name that is no strategy, or none for this task.
    """
    data = materials(base.task).data
    fitting = {name: kind for name, kind in STRATEGIES.items() if suits(kind, data)}
    names = list(fitting) if wanted is None else [BASELINE, *(name.strip() for name in wanted.split(","))]
    if unknown := [name for name in names if name not in fitting]:
        raise UsageError(f"--arms has {unknown[0]!r}; on {base.task.name} give some of {', '.join(fitting)}.")
    values = flatten(base, identity_only=False)
    found = {}
    for name in dict.fromkeys(names):
        kind = fitting[name]
        own = {f.name: values[f.name] for f in dataclasses.fields(kind) if f.name in values}
        strategy = kind(**own)
        generator = base.generator if kind.needs_embedding else None
        found[name] = dataclasses.replace(base, strategy=strategy, generator=generator)
        if control := CONTROLS.get(name):
            found[f"{name}, {', '.join(control.values())} direction"] = dataclasses.replace(
                found[name], strategy=dataclasses.replace(strategy, **control)
            )
    return found


def work() -> int:
    """Parse, run, print."""
    parsed = cli.parse(PeersOptions(), __doc__ or "", sys.argv[1:], "python sweeps/peers.py")
    base, options = parsed.experiment, parsed.options
    if "strategy" in parsed.given:
        raise UsageError("The league has arms of its own; give --arms in the place of --strategy.")
    taking_part = arms(base, options.arms)
    if options.tune:
        tried = [one for arm in taking_part.values() for one in tuning.settings(arm, options.tune)]
        seeds = range(tuning.TUNING_SEED, tuning.TUNING_SEED + options.seeds)
        sweep = Sweep("peers_tuning", options, base, experiments=side_by_side(tried, seeds))
        return run_and_show(sweep, lambda outcome: tuning.show(outcome.folder, base))
    if options.tuned:
        taking_part = {name: tuning.tuned(arm, options.tuned) for name, arm in taking_part.items()}
    seeds = range(base.seed, base.seed + options.seeds)
    sweep = Sweep("peers", options, base, experiments=side_by_side(taking_part.values(), seeds))

    def show(folder: Place) -> None:
        rows = reading.read("rounds", [folder]).table.to_pylist()
        by_arm = {}
        for name, arm in taking_part.items():
            ids = {experiment.identity for experiment in replicated(arm, seeds)}
            by_arm[name] = [row for row in rows if row["experiment"] in ids]
        show_league(by_arm, BASELINE)

    return run_and_show(sweep, lambda outcome: show(outcome.folder))


if __name__ == "__main__":
    sys.exit(cli.guarded(work))
