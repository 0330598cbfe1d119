"""The sample images of a report: what the best network makes of test samples, on tasks that keep some."""

from __future__ import annotations

import io

from _report_page import Picture, Section
from _report_source import Source
from _shared import read, rows_of


def samples(source: Source) -> Section:
    """Masks, true and predicted maps of the finished experiment with the best validation metric."""
    title = "Sample images"
    keys = read([source.folder], ("samples",), columns=())["samples"]
    if not len(keys):
        return Section(
            "samples", title, ["This task keeps no sample images: those whose labels are maps do."]
        )
    kept = ", ".join(f"'{name}'" for name in keys["experiment"].unique().to_pylist())
    best = source.one(
        f"select experiment, strategy, seed, n_labels from trials where experiment in ({kept}) "
        f"order by val_metric {source.best_first} limit 1"
    )
    from stress_maps import figure  # matplotlib: only where there is something to draw

    chosen = rows_of(source.folder, "samples", [best["experiment"]])
    told = f"{best['strategy']}, {best['n_labels']} labels, seed {best['seed']} (experiment {best['experiment']})"
    drawn = io.BytesIO()
    figure(chosen, told).savefig(drawn, format="png", dpi=110)
    caption = (
        f"{len(chosen)} test samples: input, the oracle's map, the network's, and their difference; {told}"
    )
    return Section(
        "samples",
        title,
        [
            "Of the finished experiment with the best validation metric.",
            Picture(caption, caption, drawn.getvalue()),
        ],
        [source.script("stress_maps.py", "--experiment", best["experiment"])],
    )
