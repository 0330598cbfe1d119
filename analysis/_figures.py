"""Where pictures go. Imports neither torch nor Ray."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from alss_ray.config import UsageError
from alss_ray.places import Place


def stem(out: Path | None, results: Place, name: str) -> Path:
    """The path that .png and .svg are added to: in the results folder unless `out` names a folder or a path.

    Raises:
        UsageError: the results lie elsewhere and `out` does not say where on this machine the picture goes.
    """
    if out is None:
        if results.local is None:
            raise UsageError(f"{results} is not on this machine; give --out for the picture.")
        return results.local / name
    if out.is_dir():
        return out / name
    return out.with_suffix("") if out.suffix in (".png", ".svg") else out


def save(drawn: Figure, path: Path) -> list[str]:
    """Write a figure as .png and .svg; returns both paths.

    Raises:
        UsageError: they cannot be written.
    """
    paths = [
        f"{path}{suffix}" for suffix in (".png", ".svg")
    ]  # not with_suffix: a stem may hold a dot of its own
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for each in paths:
            drawn.savefig(each, dpi=160)
    except OSError as error:
        raise UsageError(f"{path} cannot be written to ({error.strerror}); choose another --out.") from error
    return paths
