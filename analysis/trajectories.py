"""Draw points that evolve in latent space (the paper's Figure 4): their paths, real samples and decoded images.

The map shows the classes that F gives to G(p), and the samples whose labels were bought; beside it are the loss, with
the label of the nearest training sample, and its gradient. For n > 2 that is the plane of the first two principal
components, onto which paths and samples are projected. A step leads outside the data where it ends farther from every
sample than 99 % of the samples are from their nearest, or no sample is nearer than the one that it came from. An
escaper is a point of whose last three steps most led outside; a boundary walker is any other point of whose steps half
or more led to a sample of another class.

python -m alss_ray run --latent-dim 2 --redraw-every 0 --trajectories 100 --out RESULTS

python analysis/trajectories.py RESULTS
"""

from __future__ import annotations

import string
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any

import matplotlib
import numpy as np
import pyarrow.compute as pc
import tyro
from _figures import save, stem
from _paths import ESCAPER, OTHER, WALKER, Path, Plane, paths, typical
from _shared import counted, guarded, nearest, read
from scipy import ndimage

from alss_ray.config import UsageError
from alss_ray.places import Place

matplotlib.use("Agg")
from matplotlib import colormaps, patheffects
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

WALKERS, ESCAPERS = 4, 2  # shown unless points are named, as in the paper
MOST_SHOWN = 12
MOST_IMAGES = 12  # a strip holds
ARROWS = 24  # along either side of the plane
FLAT, STEEP = 1e-3, 1e1  # lengths of gradients with the shortest and the longest arrows
OUTLYING = 0.002  # share of the samples that may lie beyond each side of the picture
GAP = 1  # pixels between images
# Paul Tol's muted colours and grey: classes have their numbers written beside.
COLOURS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#7F7F7F",
)  # fmt: skip
STYLES = {WALKER: ("-", "o"), OTHER: ((0, (1, 1)), "s"), ESCAPER: ((0, (4, 2)), "^")}
PALE = ListedColormap(colormaps["YlOrRd"](np.linspace(0, 0.7, 256)))  # arrows are seen on it
TINT = 0.35  # of a class's colour where F is sure
HALO = [patheffects.withStroke(linewidth=3.2, foreground="white")]


@dataclass(frozen=True)
class TrajectoriesOptions:
    """Whose points to draw, and where to."""

    results: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RESULTS", help_behavior_hint="")]
    """Results folder of a run with --trajectories."""
    experiment: str | None = None
    """Identity of the experiment (column `experiment`), where the folder holds several."""
    points: Annotated[str | None, tyro.conf.arg(metavar="POINT,...")] = None
    """Points, separated by commas, that are drawn boldly and whose images are shown: their positions in the last round
    (column `point`); four clear boundary walkers and two clear escapers unless given."""
    out: Annotated[FilePath | None, tyro.conf.arg(metavar="FOLDER_OR_STEM")] = None
    """Folder for trajectories.png and trajectories.svg, or a path to which .png and .svg are added; the results folder
    unless given."""


def figure(plane: Plane, every: Sequence[Path], shown: Sequence[Path], title: str) -> Figure:
    """The map with the paths, the loss with its gradient, and below them a strip of images for each path shown."""
    rows = -(-len(shown) // 2)
    drawn = plt.figure(figsize=(15, 7.2 + 2.3 * rows), layout="constrained")
    top, bottom = drawn.subfigures(2, 1, height_ratios=(7.2, 2.3 * rows))
    left, right = top.subplots(1, 2)
    view = _view(plane, every)
    _draw_map(left, plane, view)
    _draw_paths(left, plane, every, shown)
    _draw_loss(right, plane)
    for axes in (left, right):
        _draw_frame(axes, plane, view)
    strips = bottom.subplots(rows, 2, squeeze=False).T.ravel()
    for axes in strips:
        axes.set_axis_off()
    for letter, path, axes in zip(string.ascii_lowercase, shown, strips, strict=False):
        _draw_strip(axes, letter, path)
    bottom.supxlabel(
        "upper rows: real samples with their classes, ↗ where the step led outside the data; lower rows: G(p) with "
        "the class that F gives it, ≠ where it is another",
        fontsize=10.5,
    )
    drawn.suptitle(title, fontsize=13)
    return drawn


def _view(plane: Plane, every: Sequence[Path]) -> np.ndarray:
    """What the picture shows, (left, right) and (bottom, top): all paths, and the samples but for outlying ones."""
    flat = plane.down(plane.codes)
    walked = np.concatenate([_flat(plane, path) for path in every])
    low, high = np.quantile(flat, [OUTLYING, 1 - OUTLYING], axis=0)
    low, high = np.minimum(low, walked.min(0)), np.maximum(high, walked.max(0))
    rim = 0.04 * (high - low)
    edges = np.reshape(plane.extent, (2, 2)).T
    return np.array([np.maximum(low - rim, edges[0]), np.minimum(high + rim, edges[1])]).T


def _draw_map(axes: Axes, plane: Plane, view: np.ndarray) -> None:
    """Decision regions, tinted by how sure F is, with the labelled samples as dots and the classes' numbers."""
    classes = sorted(set(plane.predicted.ravel().tolist()) | set(plane.labels[plane.labels >= 0].tolist()))
    inks = np.ones((*plane.predicted.shape, 3))
    for k in classes:
        inks[plane.predicted == k] = to_rgb(_colour(k))
    tints = 1 - TINT * plane.margins[..., None] * (1 - inks)
    axes.imshow(tints, origin="lower", extent=plane.extent, interpolation="nearest", aspect="equal")
    kind = "latent space" if len(plane.centre) == 2 else "the plane of two principal components"
    axes.set_title(
        f"Classes that F gives G(p) over {kind}, white where it wavers, pale\nwithout data; labelled samples and, in "
        "grey, others; paths, from their letters on",
        fontsize=10.5,
    )
    flat = plane.down(plane.codes)
    unlabelled = plane.labels < 0
    axes.scatter(*flat[unlabelled].T, s=2, color="0.55", linewidths=0)
    for k in classes:
        axes.scatter(*flat[plane.labels == k].T, s=5, color=_colour(k), linewidths=0)
        if (place := _heart(plane, k, view)) is not None:
            axes.text(
                *place, str(k), fontsize=17, weight="bold", color=0.6 * np.array(to_rgb(_colour(k))),
                ha="center", va="center", path_effects=HALO, zorder=4,
            )  # fmt: skip


def _colour(k: int) -> str:
    return COLOURS[k % len(COLOURS)]


def _places(plane: Plane) -> tuple[np.ndarray, np.ndarray]:
    """The grid's coordinates along either axis."""
    side = len(plane.predicted)
    return np.linspace(*plane.extent[:2], side), np.linspace(*plane.extent[2:], side)


def _heart(plane: Plane, k: int, view: np.ndarray) -> tuple[float, float] | None:
    """The place within a class's region, and within the data where it has some there, that is farthest from its rim."""
    across, upward = _places(plane)
    seen = (
        abs(at - span.mean()) < 0.47 * np.ptp(span) for at, span in zip((across, upward), view, strict=True)
    )
    region = (plane.predicted == k) & np.logical_and(*np.meshgrid(*seen))
    if not region.any():
        return None
    inside = region & (plane.gaps <= plane.limit)
    depth = ndimage.distance_transform_edt(np.pad(inside if inside.any() else region, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return across[column], upward[row]


def _draw_paths(axes: Axes, plane: Plane, every: Sequence[Path], shown: Sequence[Path]) -> None:
    """All paths as hairlines, those that are shown boldly, with their letters where they begin."""
    for path in every:
        axes.plot(*_flat(plane, path).T, color="0.3", linewidth=0.35, alpha=0.5, zorder=2)
    for letter, path in zip(string.ascii_lowercase, shown, strict=False):
        line, marker = STYLES[path.kind]
        places = _flat(plane, path)
        axes.plot(
            *places.T, color="black", linestyle=line, linewidth=1.5, marker=marker, markersize=4.5,
            markerfacecolor="white", markeredgewidth=1.1, path_effects=HALO, zorder=5,
        )  # fmt: skip
        axes.annotate(
            letter, places[0], (-9, 7), textcoords="offset points", fontsize=12, weight="bold", ha="center",
            va="center", bbox={"boxstyle": "circle,pad=0.18", "facecolor": "white", "edgecolor": "black"}, zorder=6,
        )  # fmt: skip
    kinds = Counter(path.kind for path in every)
    handles = [
        Line2D([], [], color="black", linestyle=line, marker=marker, markerfacecolor="white", linewidth=1.5,
               label=f"{kind}: {kinds[kind]} of {len(every)}")
        for kind, (line, marker) in STYLES.items()
    ]  # fmt: skip
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=3, fontsize=10, handlelength=3.4,
        frameon=False,
    )  # fmt: skip


def _flat(plane: Plane, path: Path) -> np.ndarray:
    return plane.down([row["position"] for row in path.rows])


def _draw_loss(axes: Axes, plane: Plane) -> None:
    """The loss, and arrows along its gradient, the longer the steeper it is."""
    losses = axes.imshow(
        plane.losses, origin="lower", extent=plane.extent, cmap=PALE, norm=LogNorm(1e-3, 1e1, clip=True),
        interpolation="nearest", aspect="equal",
    )  # fmt: skip
    across, upward = _places(plane)
    step = max(1, len(across) // ARROWS)
    pick = (slice(step // 2, None, step),) * 2
    gradients = plane.gradients[pick]
    length = np.linalg.norm(gradients, axis=-1, keepdims=True)
    size = np.clip(np.log10(np.maximum(length, FLAT) / FLAT) / np.log10(STEEP / FLAT), 0, 1)
    arrows = gradients / np.maximum(length, FLAT) * size
    axes.quiver(
        across[pick[1]], upward[pick[0]], arrows[..., 0], arrows[..., 1], pivot="mid", angles="xy",
        scale_units="xy", scale=0.9 / (step * (across[1] - across[0])), width=0.003, headwidth=4, color="black",
    )  # fmt: skip
    axes.figure.colorbar(losses, ax=axes, location="right", shrink=0.6, pad=0.01, label="loss L(F(G(p)), y)")
    lies = np.median(np.linalg.norm(plane.gradients, axis=-1) / np.maximum(plane.steepness, FLAT))
    plain = (
        "its gradient" if len(plane.centre) == 2 else f"its gradient's part in the plane (median {lies:.0%})"
    )
    axes.set_title(
        f"Loss, and arrows along {plain}: none below a length\nof {FLAT:g}, longest from {STEEP:g} on, logarithmic",
        fontsize=10.5,
    )


def _draw_frame(axes: Axes, plane: Plane, view: np.ndarray) -> None:
    """What both panels share: a veil where there are no data, boundaries of the decisions, limits, axes."""
    across, upward = _places(plane)
    if (plane.gaps > plane.limit).any():
        axes.contourf(
            across, upward, plane.gaps, [plane.limit, np.inf], colors="white", alpha=0.6, zorder=1.2
        )
    for k in np.unique(plane.predicted):
        axes.contour(across, upward, plane.predicted == k, [0.5], colors="black", linewidths=0.6)
    n = len(plane.centre)
    names = [
        f"$p_{k}$" if n == 2 else f"principal component {k} of {n} ({share:.0%} of the variance)"
        for k, share in enumerate(plane.shares, 1)
    ]
    axes.set(xlim=view[0], ylim=view[1], xlabel=names[0], ylabel=names[1])


def _draw_strip(axes: Axes, letter: str, path: Path) -> None:
    """The samples of a path above their decoded images, a column a round."""
    thin = np.unique(np.linspace(0, len(path.rows) - 1, min(MOST_IMAGES, len(path.rows))).round().astype(int))
    images = np.concatenate([_column(path.rows[k]) for k in thin], axis=1)
    height, width = images.shape[:2]
    pitch = width // len(thin)
    axes.imshow(
        images, cmap="gray_r" if images.ndim == 2 else None, vmin=0, vmax=255, interpolation="nearest"
    )
    for column, k in enumerate(thin):
        row = path.rows[k]
        middle = (column + 0.5) * pitch - 0.5 * GAP
        left_data = k > 0 and path.outside[k - 1]
        axes.text(middle, -0.04 * height, f"{row['label']}{'↗' if left_data else ''}", ha="center", va="bottom",
                  fontsize=9)  # fmt: skip
        wrong = row["predicted"] != row["label"]
        axes.text(middle, 1.03 * height, f"{'≠' if wrong else ''}{row['predicted']}", ha="center", va="top",
                  fontsize=9, weight="bold" if wrong else "normal")  # fmt: skip
    steps = len(path.outside)
    axes.set_title(
        f"$\\bf{{{letter}}}$  {path.kind} (point {path.number}): another class after {path.crossings} of "
        f"{counted(steps, 'step')}, outside the data after {sum(path.outside)}",
        fontsize=10.5, loc="left", pad=15,
    )  # fmt: skip


def _column(row: dict[str, Any]) -> np.ndarray:
    """A sample above its decoded image, framed in white: uint8, grey or RGB."""
    shape = tuple(row["image_shape"])
    pair = []
    for name in ("image", "generated"):
        image = np.frombuffer(row[name], np.uint8).reshape(shape).transpose(1, 2, 0)
        blank = 0 if shape[0] == 1 else 255
        pair.append(np.pad(image, ((0, GAP), (0, GAP), (0, 0)), constant_values=blank))
    column = np.concatenate(pair)
    return column[..., 0] if shape[0] == 1 else column


def chosen(found: Sequence[Path], points: str | None) -> list[Path]:
    """The paths to be shown.

    Raises:
        UsageError: a point that was not followed, or more than can be shown.
    """
    if points is None:
        return typical(found, WALKERS, ESCAPERS)
    known = {str(path.number): path for path in found}
    names = list(dict.fromkeys(name.strip() for name in points.split(",") if name.strip()))
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            f"--points: no point {unknown[0]} was followed to the end; {nearest(unknown[0], known)}."
        )
    if not 0 < len(names) <= MOST_SHOWN:
        raise UsageError(f"--points names {counted(len(names), 'point')}; give 1 to {MOST_SHOWN}.")
    return [known[name] for name in names]


def draw(options: TrajectoriesOptions) -> None:
    """Read one experiment's paths and plane, draw them, write both files and print their paths."""
    tables = read([options.results], ("rounds", "paths", "planes"))
    known = sorted(set(tables["paths"]["experiment"].to_pylist()))
    if not known:
        raise UsageError(
            f"{options.results} holds no paths: run an experiment with --trajectories 100 --redraw-every 0."
        )
    experiment = known[0] if options.experiment is None else options.experiment
    if experiment not in known:
        raise UsageError(f"There are no paths of experiment {experiment}; {nearest(experiment, known)}.")
    if options.experiment is None and len(known) > 1:
        raise UsageError(
            f"{options.results} holds paths of {len(known)} experiments; name one with --experiment."
        )
    mine = {
        kind: table.filter(pc.equal(table["experiment"], experiment)).to_pylist()
        for kind, table in tables.items()
    }
    if not mine["planes"]:
        raise UsageError(
            f"Experiment {experiment} has not come to its end with --trajectories, so there is no plane to draw on; "
            "go on with --resume --trajectories."
        )
    plane = Plane.of(mine["planes"][-1])
    found = paths(mine["paths"], plane.limit)
    about = mine["rounds"][-1]
    title = (
        f"{about['task']}, {about['strategy']} without re-drawing: n = {len(plane.centre)}, α = {about['alpha']:g}, "
        f"{about['n_labels']} labels in {about['t']} rounds, seed {about['seed']} (experiment {experiment})"
    )
    drawn = figure(plane, found, chosen(found, options.points), title)
    for path in save(drawn, stem(options.out, Place(options.results), "trajectories")):
        print(path)


if __name__ == "__main__":
    given = tyro.cli(TrajectoriesOptions, description=__doc__)
    sys.exit(guarded(lambda: draw(given)))
