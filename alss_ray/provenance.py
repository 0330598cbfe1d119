"""Where a result comes from: package versions, git commit, host and hardware."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("alss-ray", "torch", "torchvision", "numpy", "faiss-gpu", "faiss-cpu", "ray", "optuna", "pyarrow")


@functools.cache
def versions() -> str:
    """JSON object: version of Python and of each package that decides results, where installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return json.dumps(found)


@functools.cache
def git_commit() -> str:
    """Commit of the source tree, with '+' behind it where files differ; empty outside a git checkout."""
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ("git", "-C", str(folder), *words), capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


@functools.cache
def cpu_model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def host() -> str:
    """This machine's name and its number of processors."""
    return f"{platform.node()} ({os.cpu_count()} CPUs)"


def columns() -> dict[str, str]:
    """What every row of the records says of where it comes from."""
    return {"versions": versions(), "git_commit": git_commit(), "host": host(), "cpu": cpu_model()}
