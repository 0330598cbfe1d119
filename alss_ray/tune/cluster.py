"""The cluster a sweep runs on, and the part of it that a trial takes."""

from __future__ import annotations

import contextlib
import math
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml

from alss_ray.config import UsageError
from alss_ray.sweep import SweepOptions

CONNECT = 10.0  # seconds for a cluster to answer
BOOTSTRAP = "~/ray_bootstrap_config.yaml"  # where `ray up` leaves the cluster's description on its head

Machine = Mapping[str, float]
"""Ray's resources of one machine, by name."""


@dataclass(frozen=True)
class Share:
    """What each trial takes, and how many fit at once."""

    cpus: float
    gpus: float
    slots: int
    cores: int
    """Trials that have a core for every thread of theirs, when all CPUs are for trials."""


@contextlib.contextmanager
def connected(options: SweepOptions) -> Iterator[None]:
    """Join the cluster that was named, or have a local one for as long as the block runs.

    Raises:
        UsageError: the cluster does not answer.
    """
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "ignore_reinit_error": True}
    address = options.address or os.environ.get("RAY_ADDRESS")
    started_here = address is None and not ray.is_initialized()
    if started_here:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # 'local' by name: without it Ray would look for a cluster that was on this machine before.
        ray.init(address="local", include_dashboard=False, **quiet)
    else:
        try:
            if address and ":" in address:  # Ray itself would try for many minutes
                host, _, port = address.removeprefix("ray://").rpartition(":")
                socket.create_connection((host, int(port)), CONNECT).close()
            ray.init(address=address, **quiet)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"No Ray cluster answers at {address!r} ({error}); start one (ray start --head), set "
                "RAY_AUTH_MODE=token where it asks for a token, or leave --address out."
            ) from error
    try:
        yield
    finally:
        if started_here:
            ray.shutdown()


def share(options: SweepOptions) -> Share:
    """What a trial takes of the cluster that is connected, which must be able to give it.

    An autoscaling cluster counts with the machines it may still add, where it tells of them: to Ray's global
    state (KubeRay), or in the file that `ray up` leaves on the head. Elsewhere what it has now is all that is
    known of it.

    Raises:
        UsageError: no machine can ever carry a trial.
    """
    return divided(options, _machines(), _addable())


def divided(
    options: SweepOptions, machines: Sequence[Machine], addable: Sequence[tuple[Machine, int]]
) -> Share:
    """The same for given machines and kinds of machines, each with the number of them that can be added."""
    kinds = [*machines, *(kind for kind, count in addable if count)]
    largest = {name: max((kind.get(name, 0.0) for kind in kinds), default=0.0) for name in ("CPU", "GPU")}
    gpus = options.gpus_per_trial if options.gpus_per_trial is not None else min(1.0, largest["GPU"])
    wanted = {"CPU": float(options.cpus_per_trial), "GPU": float(gpus)}

    def room(kind: Machine) -> int:
        return min(math.floor(kind.get(name, 0.0) / value + 1e-9) for name, value in wanted.items() if value)

    def cores(kind: Machine) -> int:
        return math.floor(kind.get("CPU", 0.0) / threads(wanted["CPU"]))

    slots = sum(map(room, machines)) + sum(room(kind) * count for kind, count in addable)
    if not slots:
        missing = [
            f"{value:g} {name}s, where the largest has {largest[name]:g}"
            for name, value in wanted.items()
            if value > largest[name]
        ]
        what = " and ".join(missing) or (
            f"{wanted['CPU']:g} CPUs and {wanted['GPU']:g} GPUs together, which none of them has"
        )
        raise UsageError(
            f"A trial asks one machine of the cluster for {what}; lower --cpus-per-trial or --gpus-per-trial, "
            "or add such a machine."
        )
    abreast = sum(map(cores, machines)) + sum(cores(kind) * count for kind, count in addable)
    return Share(wanted["CPU"], wanted["GPU"], min(slots, options.concurrency or slots), max(1, abreast))


def threads(cpus: float) -> int:
    """Threads of a trial that asks for so many CPUs."""
    return max(1, int(cpus))


def _machines() -> list[Machine]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _addable() -> list[tuple[Machine, int]]:
    """Kinds of machines that an autoscaler may add, and how many."""
    from ray._private.state import state  # Ray Train asks it in the same way; there is no public one

    config = state.get_cluster_config()
    if config is not None and config.node_group_configs:
        groups = config.node_group_configs
        return [(dict(group.resources), group.max_count if group.max_count >= 0 else 1) for group in groups]
    path = Path(BOOTSTRAP).expanduser()
    head = ray.get_runtime_context().gcs_address.rpartition(":")[0]
    if head != ray.util.get_node_ip_address() or not path.exists():
        return []
    return worker_kinds(yaml.safe_load(path.read_text(encoding="utf-8")))


def worker_kinds(about: Mapping[str, Any]) -> list[tuple[Machine, int]]:
    """The kinds of workers of a cluster that `ray up` was given this description of, and how many of each."""
    most = about.get("max_workers", 0)
    return [
        (kind.get("resources", {}), min(most, kind.get("max_workers", most)))
        for name, kind in about.get("available_node_types", {}).items()
        if name != about.get("head_node_type")
    ]
