"""Vessel-wall masks from a folder of files, brought to one size and one spacing."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alss_ray.array_files import SUFFIXES, read_array
from alss_ray.config import UsageError


@dataclass(frozen=True)
class Masks:
    """Masks that could be read, in the order of their names."""

    images: np.ndarray
    """uint8 `N x 1 x side x side`: the wall's share of each pixel."""
    spacing: float
    """Side of a pixel after resampling, mm."""
    groups: tuple[str, ...]
    """The subfolder of each file, or its own name where it has none: what must not be split."""


def read_masks(folder: Path, side: int, spacing: float, wall_label: int | None) -> Masks:
    """Read every mask below a folder; files that are no masks are named in a warning and left out.

    Args:
        spacing: side of a pixel of the files, mm.
        wall_label: value of the wall in label maps; None where the files are binary or grey.

    Raises:
        UsageError: there is no such folder, no mask in it, or masks of different sizes.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UsageError(f"{folder} holds no masks; looked for files ending in {', '.join(SUFFIXES)}.")
    images, sizes, groups, refused = [], [], [], []
    for path in paths:
        try:
            mask = wall_share(read_array(path), wall_label)
        except UsageError as error:
            refused.append(f"{path}: {error}")
            continue
        images.append(resampled(mask, side))
        sizes.append(mask.shape)
        groups.append(str(path.parent.relative_to(folder)) if path.parent != folder else path.name)
    if refused:
        warnings.warn(
            "\n".join([f"{len(refused)} of {len(paths)} masks are left out:", *refused]), stacklevel=2
        )
    if not images:
        raise UsageError(f"None of the {len(paths)} files in {folder} is a mask: {refused[0]}")
    if len(set(sizes)) > 1:
        raise UsageError(
            f"The masks in {folder} have different sizes ({', '.join(f'{h}x{w}' for h, w in sorted(set(sizes)))}); "
            "one spacing cannot hold for all, so bring them to one size."
        )
    return Masks(np.stack(images)[:, None], spacing * max(sizes[0]) / side, tuple(groups))


def wall_share(mask: np.ndarray, wall_label: int | None) -> np.ndarray:
    """The wall's share of each pixel, float64 in [0, 1], from a binary, grey or label mask.

    Raises:
        UsageError: values that are no shares, or a label that does not occur.
    """
    if wall_label is not None:
        wall = mask == wall_label
        if not wall.any():
            raise UsageError(
                f"The label {wall_label} does not occur in a mask; it holds {np.unique(mask)[:8]}."
            )
        return wall.astype(np.float64)
    if mask.dtype.kind not in "buif":
        raise UsageError(f"A mask holds {mask.dtype} values; shares or grey values are wanted.")
    values = mask.astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0:
        raise UsageError(
            f"A mask holds values from {values.min()} to {values.max()}; shares or grey values are wanted."
        )
    top = values.max()
    if top <= 1:
        return values
    full = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(mask.dtype, 255.0)
    if top > full:
        raise UsageError(f"A mask holds values up to {top}; at most {full:g} is wanted.")
    return values / full


def resampled(mask: np.ndarray, side: int) -> np.ndarray:
    """A share mask `H x W` as uint8 `side x side`, by area, with empty borders where it is not square."""
    height, width = mask.shape
    whole = max(height, width)
    square = np.zeros((whole, whole))
    top, left = (whole - height) // 2, (whole - width) // 2
    square[top : top + height, left : left + width] = mask
    # Each output pixel is the mean of the input area that it covers, partial pixels included.
    edges = np.linspace(0, whole, side + 1)
    low, high = edges[:-1, None], edges[1:, None]
    weights = np.clip(np.minimum(high, np.arange(1, whole + 1)) - np.maximum(low, np.arange(whole)), 0, None)
    weights /= whole / side
    return np.rint(255 * (weights @ square @ weights.T)).clip(0, 255).astype(np.uint8)
