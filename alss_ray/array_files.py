"""Two-dimensional arrays from the files in which people keep masks and maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from alss_ray.config import UsageError

SUFFIXES = (".png", ".tif", ".tiff", ".npy", ".npz")


def read_array(path: Path) -> np.ndarray:
    """The array in a file, two-dimensional; an NPZ file must hold one, and a colour picture is taken as grey.

    Raises:
        UsageError: the file cannot be read or has no two-dimensional array.
    """
    try:
        if path.suffix.lower() in (".npy", ".npz"):
            loaded = np.load(path, allow_pickle=False)
            if isinstance(loaded, np.ndarray) != (path.suffix.lower() == ".npy"):
                raise ValueError("its content is not what its name says")
            if isinstance(loaded, np.ndarray):
                array = loaded
            else:
                with loaded:
                    array = loaded[loaded.files[0]] if len(loaded.files) == 1 else np.empty(0)
        else:
            with Image.open(path) as image:
                plain = image.mode in ("L", "1", "P", "F") or image.mode.startswith("I")
                array = np.asarray(image if plain else image.convert("L"))
    except Exception as error:  # damaged files make these libraries raise anything at all
        raise UsageError(f"cannot be read ({' '.join(str(error).split())}).") from error
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    array = np.squeeze(array)
    if array.ndim != 2 or not array.size:
        raise UsageError(f"its array has shape {array.shape}; one of two dimensions is wanted.")
    return array
