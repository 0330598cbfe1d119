"""Switch every part of the method one at a time, on paired seeds, against the method as it stands on the command line.

The parts: direction, normalisation, re-drawing, exclusion, decoded or real samples or both, augmentation, warm start
or retraining, grey or mask input, latent posterior mean or sample, and what else the strategy has; random selection
is the reference, with the parts of training as they stand.
"""

import sys

from alss_ray import cli, summary
from alss_ray.catalogue import experiment_from
from alss_ray.config import Experiment, Scalar, UsageError, flatten
from alss_ray.display import print_table
from alss_ray.metrics import display_unit
from alss_ray.places import Place
from alss_ray.reference import random_selection
from alss_ray.specs import fields
from alss_ray.sweep import PairedOptions, Sweep, run_and_show, side_by_side

PARTS = {
    "direction": "direction",
    "normalise": "normalisation",
    "redraw_every": "re-drawing",
    "exclude_labelled": "exclusion",
    "decoded": "decoded or real samples",
    "decoded_beside": "decoded samples beside real ones",
    "first": "first round",
    "stepped_from": "points to step from",
    "spread": "spread of draws",
    "fed": "grey or mask input",
    "augment": "augmentation",
    "retrain": "warm start or retraining",
    "codes": "latent posterior",
}
"""Field -> the part of the method that it switches."""


def arms(base: Experiment) -> dict[str, Experiment]:
    """The method itself and the method with one part switched, by name."""
    known, values = fields(base), flatten(base, identity_only=False)
    found = {"as it is": base}
    for name in (part for part in PARTS if part in known):
        others: tuple[Scalar, ...] = known[name].allowed or (0 if values[name] else 1,)
        for other in (value for value in others if value != values[name]):
            found[f"{name} {other}".lower()] = experiment_from({**values, name: other})
    return {**found, "random": random_selection(base)}


def show(folder: Place, base: Experiment, seeds: range) -> None:
    """Print the final test metric and the AULC of every arm, and its paired differences to the method."""
    rows = summary.final_rows(folder)
    scale, unit = display_unit(base.task.metric)
    body = []
    for name, arm in arms(base).items():
        pairs = summary.paired(rows, arm, base, seeds)
        cells = [name if len(pairs) == len(seeds) else f"{name} ({len(pairs)} seeds)"]
        for column in ("test_metric", "test_aulc"):
            cells.append(summary.spread([scale * one[column] for one, _ in pairs], 2))
            change = [scale * (one[column] - other[column]) for one, other in pairs]
            cells.append(summary.difference(change, 2) if arm != base else "")
        body.append(cells)
    left_out = [part for name, part in PARTS.items() if name not in fields(base)]
    print_table(
        f"{base.task.name}, {flatten(base)['strategy']}: one part switched at a time, {len(seeds)} paired seeds",
        [
            "arm",
            f"final test {base.task.metric}{unit}",
            "difference",
            f"test AULC ({base.task.metric}{unit})",
            "difference",
        ],
        body,
        "Mean ± standard deviation; paired differences to the first row with their 95% t interval. "
        f"Not here, as the task or strategy has no such part: {', '.join(left_out) or 'nothing'}.",
    )


def work() -> int:
    """Parse, run, print."""
    parsed = cli.parse(PairedOptions(), __doc__ or "", sys.argv[1:], "python sweeps/ablation.py")
    base, options = parsed.experiment, parsed.options
    if not base.strategy.needs_embedding:
        raise UsageError(f"The strategy {flatten(base)['strategy']} has no parts to switch; choose another.")
    seeds = range(base.seed, base.seed + options.seeds)
    sweep = Sweep("ablation", options, base, experiments=side_by_side(arms(base).values(), seeds))
    return run_and_show(sweep, lambda outcome: show(outcome.folder, base, seeds))


if __name__ == "__main__":
    sys.exit(cli.guarded(work))
