"""A script that plays the person before an inbox of digits: reads the manifests, writes true classes into them."""

from __future__ import annotations

import csv
from pathlib import Path

from alss_ray.files import replacing
from alss_ray.tasks import Digits

SKIPS = 7
"""It skips the images at positions of D that this divides."""


def label(inbox: Path, at_most: int = 10**6, skipping: bool = True) -> int:
    """Answer for the next images, in order; returns for how many."""
    targets = Digits().load().oracle.targets  # type: ignore[attr-defined]
    given = 0
    for manifest in sorted(inbox.glob("[0-9]*/manifest.csv")):
        with open(manifest, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            if not row["label"] and given < at_most:
                position = int(row["position"])
                row["label"] = "skip" if skipping and position % SKIPS == 0 else str(int(targets[position]))
                given += 1
        with replacing(manifest) as part, open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
    return given
