"""Draw what the network learnt of the maps (the paper's Figure S1): masks, true and predicted maps, differences.

python analysis/stress_maps.py RESULTS

python analysis/stress_maps.py RESULTS --experiment 0913db734c9b --out maps.png
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import numpy as np
import pyarrow.compute as pc
import tyro
from _figures import stem
from _shared import guarded, nearest, read

from alss_ray.config import UsageError
from alss_ray.places import Place

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure


@dataclass(frozen=True)
class MapsOptions:
    """Whose maps to draw, and where to."""

    results: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RESULTS", help_behavior_hint="")]
    """Results folder of a sweep or a single run on a task whose labels are maps."""
    experiment: str | None = None
    """Identity of the experiment (column `experiment`); the one with the lowest validation metric unless given."""
    out: Path | None = None
    """The picture; maps.png in the results folder unless given."""


def figure(samples: list[dict[str, Any]], title: str) -> Figure:
    """One row a sample: mask, target, output and output - target, the maps on one scale."""
    shape = (samples[0]["height"], samples[0]["width"])
    unit = samples[0]["unit"]
    masks = [np.frombuffer(row["image"], np.uint8).reshape(shape) for row in samples]
    targets, outputs = (
        [np.frombuffer(row[name], "<f4").reshape(shape) for row in samples] for name in ("target", "output")
    )
    top = max(np.percentile(target, 99.8) for target in targets)
    gap = max(np.percentile(np.abs(o - t), 99.8) for o, t in zip(outputs, targets, strict=True))
    drawn, axes = plt.subplots(
        len(samples), 4, figsize=(8.6, 1.9 * len(samples) + 0.9), layout="constrained", squeeze=False
    )
    for row, mask, target, output in zip(axes, masks, targets, outputs, strict=True):
        row[0].imshow(mask, cmap="gray", vmin=0, vmax=255)
        row[1].imshow(target, cmap="inferno", vmin=0, vmax=top)
        stress = row[2].imshow(output, cmap="inferno", vmin=0, vmax=top)
        difference = row[3].imshow(output - target, cmap="RdBu_r", vmin=-gap, vmax=gap)
        for at in row:
            at.set_xticks([])
            at.set_yticks([])
    for at, name in zip(axes[0], ("mask", "oracle", "network", "network - oracle"), strict=True):
        at.set_title(name, fontsize=11)
    drawn.colorbar(stress, ax=axes[:, 1:3], location="bottom", shrink=0.8, label=f"stress ({unit})")
    drawn.colorbar(difference, ax=axes[:, 3], location="bottom", shrink=0.8, label=f"difference ({unit})")
    drawn.suptitle(title, fontsize=11)
    return drawn


def draw(options: MapsOptions) -> None:
    """Read the samples of one experiment, draw them, and print the picture's path."""
    tables = read([options.results], ("rounds", "samples"))
    samples = tables["samples"]
    if not len(samples):
        raise UsageError(
            f"{options.results} holds no maps: they are kept at the end of an experiment whose labels are maps."
        )
    known = set(samples["experiment"].to_pylist())
    if options.experiment is not None and options.experiment not in known:
        raise UsageError(
            f"There are no maps of experiment {options.experiment}; {nearest(options.experiment, known)}."
        )
    ended = [
        row
        for row in tables["rounds"].to_pylist()
        if row["experiment"] in known and row["n_labels"] == row["label_budget"]
    ]
    if options.experiment is None:
        best = min(ended, key=lambda row: row["val_metric"])
    else:
        best = next(row for row in ended if row["experiment"] == options.experiment)
    chosen = samples.filter(pc.equal(samples["experiment"], best["experiment"])).to_pylist()
    title = f"{best['strategy']}, {best['n_labels']} labels, seed {best['seed']} (experiment {best['experiment']})"
    path = options.out or stem(None, Place(options.results), "maps").with_suffix(".png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure(chosen, title).savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(f"{path} cannot be written to ({error.strerror}); choose another --out.") from error
    print(path)


if __name__ == "__main__":
    given = tyro.cli(MapsOptions, description=__doc__)
    sys.exit(guarded(lambda: draw(given)))
