"""What labels cost the people who gave them, by the records of kind `labels`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

COLUMNS = ("refusal", "asker", "asked_at", "came_at", "person_seconds")
"""What `pace` needs beside the key."""


@dataclass(frozen=True)
class Pace:
    """How fast people labelled."""

    labels: int
    """Labels that they gave, each once, whichever experiments it served."""
    skipped: int
    """Images that they refused."""
    hours: float
    """Their time: as the labelling tool measured it, else the time in which images lay before them, by the clock."""
    measured: bool
    """Whether the labelling tool measured it."""
    turnaround: float
    """Median time from asking for a label to its coming, hours."""

    @property
    def per_hour(self) -> float:
        """Labels per hour; what was skipped took time, too."""
        return self.labels / self.hours

    @property
    def told(self) -> str:
        """In a sentence."""
        how = "as the labelling tool measured it" if self.measured else "by the clock, from asking on"
        skipped = f" and skipped {self.skipped:,}" if self.skipped else ""
        return (
            f"People gave {self.labels:,} labels{skipped} in {self.hours:.3g} hours, {how}: {self.per_hour:.3g} labels "
            f"an hour. Half of them came within {self.turnaround:.3g} hours."
        )


def pace(table: pa.Table) -> Pace | None:
    """The pace of the people who gave the labels of a table of the kind `labels`; None where nobody gave any."""
    own = table.filter(pc.equal(table["asker"], table["experiment"]))
    if not len(own):
        return None
    asked, came = (own[name].cast(pa.int64()).to_numpy() / 3.6e9 for name in ("asked_at", "came_at"))
    spent = own["person_seconds"].to_numpy()
    measured = bool(np.isfinite(spent).all())
    hours = float(spent.sum() / 3600) if measured else _covered(asked, came)
    skipped = len(own) - own["refusal"].null_count
    return Pace(len(own) - skipped, skipped, hours, measured, float(np.median(came - asked)))


def _covered(begin: np.ndarray, end: np.ndarray) -> float:
    """Length of the union of intervals: several batches that lie before people at once take their time once."""
    total, until = 0.0, -np.inf
    for k in np.argsort(begin):
        total += max(0.0, end[k] - max(begin[k], until))
        until = max(until, end[k])
    return total
