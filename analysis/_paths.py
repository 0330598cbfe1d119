"""Points that evolve in latent space, as the records have them, and what becomes of them.

Imports neither torch nor Ray.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WALKER, ESCAPER, OTHER = "boundary walker", "escaper", "neither"
WALKS = 0.5  # share of a walker's steps that lead to another class
FINAL = 3  # steps, most of which an escaper ends outside the data
SAME = 0.999  # of a step's length: nothing lies nearer than where it came from, but for rounding
RARE = 0.99  # of the samples have another one within the distance that counts as inside the data

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Plane:
    """The plane at the end of an experiment: S x S places, row after row from the bottom, in n dimensions."""

    centre: np.ndarray
    """`n`."""
    axes: np.ndarray
    """`2 x n`."""
    shares: np.ndarray
    """`2`: shares of the codes' variance."""
    extent: tuple[float, float, float, float]
    """Left, right, bottom, top."""
    predicted: np.ndarray
    """`S x S`: the class that F gives G(p)."""
    margins: np.ndarray
    """`S x S`: that class's probability less that of the next."""
    losses: np.ndarray
    """`S x S`."""
    gradients: np.ndarray
    """`S x S x 2`: the loss's gradient along the plane."""
    steepness: np.ndarray
    """`S x S`: the whole gradient's length."""
    gaps: np.ndarray
    """`S x S`: distance to the nearest sample of D."""
    codes: np.ndarray
    """`m x n`: some samples of D."""
    labels: np.ndarray
    """`m`: their classes, -1 where no label was bought."""
    limit: float
    """The distance to the nearest sample beyond which a point has left the data."""

    @classmethod
    def of(cls, row: Row) -> Plane:
        """The plane of a row of the records."""
        side, n = row["grid_side"], len(row["plane_centre"])

        def grid(name: str, kind: str = "<f4") -> np.ndarray:
            return np.frombuffer(row[f"grid_{name}"], kind).reshape(side, side, -1).squeeze()

        return cls(
            np.array(row["plane_centre"]), np.reshape(row["plane_axes"], (2, n)), np.array(row["plane_shares"]),
            tuple(row["grid_extent"]), grid("predicted", "<i4"), grid("margins"), grid("losses"),
            grid("gradients"), grid("steepness"), grid("gaps"),
            np.frombuffer(row["kept_codes"], "<f4").reshape(-1, n), np.frombuffer(row["kept_labels"], "<i4"),
            float(np.quantile(np.frombuffer(row["kept_gaps"], "<f4"), RARE)),
        )  # fmt: skip

    def down(self, points: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
        """Points `m x n` projected onto the plane: `m x 2`."""
        return (np.asarray(points, float) - self.centre) @ self.axes.T


@dataclass(frozen=True)
class Path:
    """Where one point went, round after round."""

    rows: Sequence[Row]
    """One a round, the first of which it was not stepped to."""
    outside: tuple[bool, ...]
    """Whether each step led outside the data (`leaves`)."""

    @property
    def number(self) -> int:
        """The point's position in its last round."""
        return self.rows[-1]["point"]

    @property
    def labels(self) -> list[int]:
        """The classes of its samples."""
        return [row["label"] for row in self.rows]

    @property
    def crossings(self) -> int:
        """Steps that led to a sample of another class."""
        return sum(a != b for a, b in itertools.pairwise(self.labels))

    @property
    def kind(self) -> str:
        """What becomes of the point (Mo et al. 2020, Section 5).

        Escapers 'keep on exploring toward outside until there is no any nearest neighbor around': most of their last
        steps led outside the data. Walkers 'walk around the boundary between classes': half of their steps or more
        led to a sample of another class, and they are no escapers. The paper gives no numbers; these are ours.
        """
        final = self.outside[-FINAL:]
        if 2 * sum(final) > len(final):
            return ESCAPER
        return WALKER if self.outside and self.crossings >= WALKS * len(self.outside) else OTHER


def paths(rows: Iterable[Row], limit: float) -> list[Path]:
    """The path of every point that was still followed in the last round, from where it began.

    Args:
        rows: the paths of one experiment.
        limit: as `Plane.limit`.
    """
    at = {(row["t"], row["point"]): row for row in rows}
    last = max(t for t, _ in at)
    found = []
    for row in (row for (t, _), row in sorted(at.items(), key=lambda item: item[0]) if t == last):
        path = [row]
        while (before := at.get((path[0]["t"] - 1, path[0]["origin"]))) is not None:
            path.insert(0, before)
        outside = tuple(leaves(*pair, limit) for pair in itertools.pairwise(path))
        found.append(Path(path, outside))
    return found


def leaves(before: Row, after: Row, limit: float) -> bool:
    """Whether a step led outside the data.

    It does where it ended beyond `limit` from every sample, or none is nearer there than the one that it came from:
    where a sample is farther from the others than a step is long, nothing tells more.
    """
    length = np.linalg.norm(np.subtract(after["stepped"], before["position"]))
    return bool(after["gap"] > min(limit, SAME * length))


def typical(found: Sequence[Path], walkers: int, escapers: int) -> list[Path]:
    """The paths that show best what becomes of points: walkers that keep to the boundary of two classes, and escapers
    that leave early, of as many classes as there are.

    Where a kind has too few, the others make up for it.
    """
    strength = {
        WALKER: lambda path: path.crossings + _faithful(path),
        ESCAPER: lambda path: sum(path.outside),
        OTHER: lambda _: 0,
    }
    chosen: list[Path] = []
    for kind, wanted in ((WALKER, walkers), (ESCAPER, escapers), (OTHER, 0), (WALKER, 0), (ESCAPER, 0)):
        missing = wanted if wanted else walkers + escapers - len(chosen)
        left = [path for path in found if path.kind == kind and path not in chosen]
        left.sort(key=strength[kind], reverse=True)
        seen: Counter[frozenset[int]] = Counter()
        for _ in range(min(missing, len(left))):
            # The clearest of those whose classes were shown least.
            best = min(left, key=lambda path: (seen[_between(path)], -strength[kind](path)))
            seen[_between(best)] += 1
            left.remove(best)
            chosen.append(best)
    order = (WALKER, OTHER, ESCAPER)
    return sorted(chosen, key=lambda path: order.index(path.kind))


def _faithful(path: Path) -> int:
    """Samples of the two classes that a path has most to do with."""
    return sum(count for _, count in Counter(path.labels).most_common(2))


def _between(path: Path) -> frozenset[int]:
    """The two classes that a path has most to do with."""
    return frozenset(label for label, _ in Counter(path.labels).most_common(2))
