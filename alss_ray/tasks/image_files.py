"""Images from files or bytes: decoded by Pillow, upright, grey or colour, fitted into one square size."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track
from torch import Tensor

from alss_ray.config import UsageError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
BILINEAR = Image.Resampling.BILINEAR
MANY = 2000  # images whose reading takes seconds
NAMED = 10  # unusable images that a message names; it counts the others

Channels = Literal[3, 1]
Unusable = Literal["refuse", "skip"]


@dataclass(frozen=True)
class ImageFile:
    """An image that is still to be decoded."""

    name: str
    """What messages and manifests call it."""
    content: Path | bytes


def find_images(folder: Path) -> list[ImageFile]:
    """Every image file below a folder, named by its path there, in the order of the names; hidden ones are left out.

    Raises:
        UsageError: there is no such folder, or no image in it.
    """
    inside = [path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    paths = sorted(
        path
        for path in inside
        if not any(part.startswith(".") for part in path.parts) and (folder / path).is_file()
    )
    if not paths:
        there = "holds no images" if folder.is_dir() else "is no folder"
        raise UsageError(f"{folder} {there}; looked for files ending in {', '.join(SUFFIXES)}.")
    return [ImageFile(path.as_posix(), folder / path) for path in paths]


def read_images(files: Sequence[ImageFile], side: int, channels: int) -> tuple[Tensor, dict[int, str]]:
    """All images, and what is wrong with those that cannot be read.

    Returns:
        uint8 `N x C x side x side` in the order of the files, black where one cannot be read; and position -> reason.
    """
    images = np.zeros((len(files), channels, side, side), np.uint8)
    faults: dict[int, str] = {}

    def read(position: int) -> None:
        try:
            images[position] = decoded(files[position].content, side, channels)
        except UsageError as error:
            faults[position] = str(error)

    # Pillow decodes and resizes without holding Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(read, range(len(files)), chunksize=64)
        quiet = len(files) < MANY or not sys.stderr.isatty()
        for _ in track(
            done, "reading images", len(files), console=Console(stderr=True), transient=True, disable=quiet
        ):
            pass
    return torch.from_numpy(images), dict(sorted(faults.items()))


def usable(files: Sequence[ImageFile], faults: Mapping[int, str], unusable: Unusable) -> Tensor:
    """The positions of the files without a fault, int64; the others are named in one warning.

    Raises:
        UsageError: there are faults and `unusable` is 'refuse', or no file is without one.
    """
    if faults:
        named = [f"{files[k].name}: {fault}" for k, fault in sorted(faults.items())]
        more = [f"and {len(named) - NAMED} more"] if len(named) > NAMED else []
        if unusable == "refuse":
            raise UsageError(
                f"{len(named)} of {len(files)} images cannot be used ({' '.join([*named[:NAMED], *more])}); "
                "mend or remove them, or add --unusable skip."
            )
        if len(faults) == len(files):
            raise UsageError(f"None of the {len(files)} images can be used ({named[0]}).")
        head = f"{len(named)} of {len(files)} images are left out:"
        warnings.warn("\n".join([head, *named[:NAMED], *more]), stacklevel=2)
    return torch.tensor([k for k in range(len(files)) if k not in faults])


def decoded(content: Path | bytes, side: int, channels: int) -> np.ndarray:
    """One image, uint8 `C x side x side`: turned upright, its aspect kept, centred, with black borders.

    16-bit grey is scaled by its type's whole range, floating-point grey is taken as shares of 1; an alpha channel
    is dropped.

    Raises:
        UsageError: it is damaged, of another format, or more than one picture.
    """
    return _array(content, side, channels, lambda image: ImageOps.pad(image, (side, side), BILINEAR))


def whole(content: Path | bytes, most: int, channels: int) -> np.ndarray:
    """One image for people to look at, uint8 `C x H x W`: as `decoded`, but in its own shape, and no larger than `most`
    pixels a side. Raises the same."""
    return _array(
        content,
        most,
        channels,
        lambda image: ImageOps.contain(image, (most, most), BILINEAR) if max(image.size) > most else image,
    )


def _array(
    content: Path | bytes, side: int, channels: int, fit: Callable[[Image.Image], Image.Image]
) -> np.ndarray:
    mode = "L" if channels == 1 else "RGB"
    try:
        with Image.open(
            io.BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS
        ) as image:
            if image.format == "TIFF" and (pages := getattr(image, "n_frames", 1)) > 1:
                raise ValueError(f"it holds {pages} pictures, one is wanted")
            image.draft(mode, (2 * side, 2 * side))  # a large JPEG is decoded at a fraction of its size
            array = np.asarray(fit(_eight_bit(ImageOps.exif_transpose(image)).convert(mode)))
    except Exception as error:  # damaged files make Pillow raise anything at all
        raise UsageError(f"It cannot be read as an image ({' '.join(str(error).split())}).") from error
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def _eight_bit(image: Image.Image) -> Image.Image:
    """The image in a mode of 8 bits a channel."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        full = 1.0 if image.mode == "F" else 65535.0
        if not (values.min() >= 0 and values.max() <= full):
            raise ValueError(
                f"its values go from {values.min():g} to {values.max():g}, at most {full:g} is wanted"
            )
        return Image.fromarray(np.rint(values * (255.0 / full)).astype(np.uint8))
    return image.convert("RGBA") if "transparency" in image.info else image
