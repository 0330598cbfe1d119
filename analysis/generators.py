"""Draw what generators make of images: reconstructions, walks through latent space, and images of fresh z.

python analysis/generators.py RESULTS

python analysis/generators.py RESULTS --generator 0913db73 --out pictures
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import numpy as np
import tyro
from _figures import stem
from _shared import guarded, nearest, read, rows_of

from alss_ray.config import UsageError
from alss_ray.places import Place

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

GAP = 2  # pixels between two images
PANELS = {
    "originals": "test images x",
    "rebuilt": "G(E(x))",
    "walks": "G on straight lines between the codes of two of them",
    "fresh": "G(z), z from N(0, I)",
}


@dataclass(frozen=True)
class GeneratorsOptions:
    """Whose pictures to draw, and where to."""

    results: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RESULTS", help_behavior_hint="")]
    """Results folder of a sweep or a single run with a strategy that uses a latent space."""
    generator: str | None = None
    """Key of the generator (column `generator_key`), or its beginning; every one unless given."""
    out: Path | None = None
    """Folder for the pictures; the results folder unless given."""


def tiled(pixels: bytes, shape: tuple[int, int, int], across: int) -> np.ndarray:
    """Images one beside the other, `across` in a row, as one: H x W for grey, H x W x 3 for colour."""
    images = np.frombuffer(pixels, np.uint8).reshape(-1, *shape).transpose(0, 2, 3, 1)
    down, (height, width) = len(images) // across, shape[1:]
    sheet = np.full((down * (height + GAP) - GAP, across * (width + GAP) - GAP, shape[0]), 255, np.uint8)
    for k, image in enumerate(images):
        top, left = (k // across) * (height + GAP), (k % across) * (width + GAP)
        sheet[top : top + height, left : left + width] = image
    return sheet[:, :, 0] if shape[0] == 1 else sheet[:, :, :3]


def figure(row: dict[str, Any]) -> Figure:
    """One generator's pictures, with its figures above."""
    sheets = {name: tiled(row[name], tuple(row["image_shape"]), row["shown"]) for name in PANELS}
    heights = [len(sheet) for sheet in sheets.values()]
    width = sheets["fresh"].shape[1]
    drawn, axes = plt.subplots(
        len(PANELS),
        1,
        figsize=(7.2, 7.2 * sum(heights) / width + 2.2),
        height_ratios=heights,
        layout="constrained",
    )
    for at, (name, sheet) in zip(axes, sheets.items(), strict=True):
        at.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        at.set_title(PANELS[name], fontsize=10, loc="left")
        at.axis("off")
    near = row["near_same_class"]
    classes = (
        "" if near is None else f", same class nearby {near:.2f} ({row['near_by_chance']:.2f} by chance)"
    )
    drawn.suptitle(
        f"{row['generator']}, n = {row['latent_dim']}, on {row['task']} ({row['generator_key'][:8]})\n"
        f"error {row['reconstruction_rmse']:.3f} (mean image {row['mean_image_rmse']:.3f}){classes}\n"
        f"E(D): deviations {row['code_sd_least']:.2f} to {row['code_sd_most']:.2f}, energy "
        f"{row['energy_coefficient']:.3f}",
        fontsize=9.5,
    )
    return drawn


def pictured(folder: Place | str) -> dict[str, str]:
    """Every generator's key, with the first experiment that used it and kept pictures."""
    tables = read([folder], ("rounds", "generators", "pictures"), ("experiment", "generator_key"))
    kept = set(tables["pictures"]["experiment"].to_pylist())
    rows = [row for row in tables["generators"].to_pylist() if row["experiment"] in kept]
    return {row["generator_key"]: row["experiment"] for row in reversed(rows)}


def drawn_from(folder: Place | str, experiments: Collection[str]) -> dict[str, dict[str, Any]]:
    """Generator's key -> its figures and pictures, of experiments that used different ones."""
    figures, pictures = (
        {row["experiment"]: row for row in rows_of(folder, kind, experiments)}
        for kind in ("generators", "pictures")
    )
    return {figures[name]["generator_key"]: figures[name] | pictures[name] for name in experiments}


def draw(options: GeneratorsOptions) -> None:
    """Draw each generator once, from the first experiment that used it, and print the pictures' paths."""
    first = pictured(options.results)
    if not first:
        raise UsageError(
            f"{options.results} holds no generator: they are judged at the end of an experiment that uses one."
        )
    wanted = [key for key in sorted(first) if key.startswith(options.generator or "")]
    if not wanted:
        raise UsageError(
            f"There is no generator {options.generator}; {nearest(options.generator or '', first)}."
        )
    rows = drawn_from(options.results, [first[key] for key in wanted])
    for key, row in rows.items():
        path = stem(None, Place(options.out or options.results), f"generator-{key[:8]}").with_suffix(".png")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sheet = figure(row)
            sheet.savefig(path, dpi=150)
            plt.close(sheet)
        except OSError as error:
            raise UsageError(
                f"{path} cannot be written to ({error.strerror}); choose another --out."
            ) from error
        print(path)


if __name__ == "__main__":
    given = tyro.cli(GeneratorsOptions, description=__doc__)
    sys.exit(guarded(lambda: draw(given)))
