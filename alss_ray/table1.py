"""The paper's Table 1 from records: the test metric of each arm at each t, beside the rows that the paper reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alss_ray.metrics import display_unit
from alss_ray.published import TABLE1

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Table1:
    """A table as text."""

    title: str
    columns: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    caption: str


def table1(arms: Mapping[str, Rows], whole_pool: Rows = (), caption: str = "") -> Table1:
    """Mean ± standard deviation of the test metric over the seeds of each arm; a cell with fewer seeds says so.

    Args:
        arms: name -> its rows of the records, one a seed and round, all of one task.
        whole_pool: those of runs that bought the whole pool's labels in one round: the reference.
        caption: sentences to begin the caption with.
    """
    every = [row for rows in arms.values() for row in rows]
    first = every[0]
    scale, unit = display_unit(first["metric"])
    seeds = max(len({row["seed"] for row in rows}) for rows in arms.values())

    def cell(rows: Rows, t: int) -> str:
        values = [
            scale * row["test_metric"] for row in rows if row["t"] == t and row["test_metric"] is not None
        ]
        spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
        few = f" (n = {len(values)})" if 0 < len(values) < seeds else ""
        return f"{np.mean(values):.2f}{spread}{few}" if values else "-"

    labels = dict(sorted((row["t"], row["n_labels"]) for row in every))
    columns = {name: [cell(rows, t) for t in labels] for name, rows in arms.items()}
    for name, published in TABLE1.get(first["task"], {}).items():
        columns[f"paper: {name}"] = [str(published[t - 1]) if t <= len(published) else "-" for t in labels]
    sentences = [caption] if caption else []
    if whole_pool:
        sentences.append(f"All {whole_pool[0]['label_budget']} labels: {cell(whole_pool, 1)}.")
        sentences.append(f"Without learning: {scale * first['test_guess']:.2f}.")
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed, so without a spread"
    return Table1(
        f"Test {first['metric']}{unit and f' in{unit}'} on {first['task']}, {spread}",
        ("t", "labels", *columns),
        tuple(
            (str(t), str(labels[t]), *(cells[k] for cells in columns.values()))
            for k, t in enumerate(sorted(labels))
        ),
        " ".join(sentences),
    )
