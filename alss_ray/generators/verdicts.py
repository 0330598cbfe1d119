"""Printing what was found out about the generators of a results folder."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

from alss_ray import reading
from alss_ray.display import print_table
from alss_ray.places import Place

Row = dict[str, Any]

COLUMNS = (
    "generator", "key", "runs", "error (mean)", "sd of E(D)", "energy", "near (chance)", "F agrees", "left", "stuck",
)  # fmt: skip
CAPTION = (
    "error: root mean square of G(E(x)) - x on test images, and that of the mean image. sd of E(D): the least and the "
    "largest, 1 for N(0, I); energy: its coefficient, 0 for N(0, I). near: share of the nearest validation samples "
    "that are of the same class. F agrees: metric of F(G(E(x))) with F(x) as the label. Of steps of length α along the "
    "gradient, shares that left the data, and that reach no other sample. Pictures: python analysis/generators.py"
)
MOST_LEFT = 0.5  # share of steps that leave the data from which on that is told


def print_generators(folder: Place) -> None:
    """A line for each generator that finished experiments used; nothing where there is none."""
    table = reading.read("generators", [folder]).table
    if not len(table):
        return
    uses: dict[str, list[Row]] = defaultdict(list)
    for row in table.to_pylist():
        uses[row["generator_key"]].append(row)

    def mean(rows: list[Row], name: str, digits: int = 2) -> str:
        known = [row[name] for row in rows if row[name] is not None]
        return f"{statistics.fmean(known):.{digits}f}" if known else "-"

    body = [
        [
            f"{rows[0]['generator']}, n = {rows[0]['latent_dim']}",
            key[:8],
            str(len(rows)),
            f"{mean(rows, 'reconstruction_rmse', 3)} ({mean(rows, 'mean_image_rmse', 3)})",
            f"{mean(rows, 'code_sd_least')} - {mean(rows, 'code_sd_most')}",
            mean(rows, "energy_coefficient", 3),
            f"{mean(rows, 'near_same_class')} ({mean(rows, 'near_by_chance')})",
            mean(rows, "decoded_agreement", 3),
            mean(rows, "gradient_left_share"),
            mean(rows, "gradient_stuck_share"),
        ]
        for key, rows in sorted(uses.items(), key=lambda item: (item[1][0]["latent_dim"], item[0]))
    ]
    print_table("Generators", COLUMNS, body, f"{CAPTION} {folder}")
    for key, rows in uses.items():
        for doubt in _doubts(rows):
            print(f"Generator {key[:8]}: {doubt}")


def _doubts(rows: list[Row]) -> list[str]:
    """Why a generator should not be trusted with labels, in sentences."""
    doubts = []
    if statistics.median(row["reconstruction_rmse"] - row["mean_image_rmse"] for row in rows) >= 0:
        doubts.append(
            "it rebuilds images no better than their mean does; give it more --generator-iterations."
        )
    left = [row["gradient_left_share"] for row in rows if row["gradient_left_share"] is not None]
    if left and statistics.median(left) > MOST_LEFT:
        doubts.append(f"{statistics.median(left):.0%} of the steps leave the data; lower --alpha.")
    return doubts
