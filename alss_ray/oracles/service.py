"""One oracle for all trials of a sweep: workers on CPUs of their own, and a front desk that all trials share.

The driver opens the service before it submits any trial. A placement group, spread over the nodes, takes the
workers' CPUs out of what trials can get, also while a killed worker is being replaced: trials that hold every
other CPU and wait for labels are served. `desk.py` says who gets which label when, `worker.py` who makes it.
"""

from __future__ import annotations

import math
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from alss_ray.config import UsageError, at_least, component_name
from alss_ray.oracles.base import ImageBatch, Labels, Oracle
from alss_ray.oracles.cache import (
    LabelStore,
    OracleError,
    Tally,
    Verdict,
    assemble,
    decode,
    image_key,
    oracle_identity,
)
from alss_ray.oracles.desk import OracleDesk
from alss_ray.oracles.worker import OracleWorker
from alss_ray.places import Place

QUEUE_LIMIT = 1024  # images that wait for a worker before callers wait for room
CHUNK, IN_FLIGHT = 64, 4  # images a request, requests of one caller at a time
RETRIES, PAUSE = 300, 0.2  # a request is asked again, after so many seconds, while there is no desk
PATIENCE = 60.0  # seconds for workers to find their CPUs and to start
INLINE = 50_000  # bytes of a pickled oracle up to which it is no object of Ray's store
LASTING = {"max_restarts": -1, "max_task_retries": 0}  # retries are ours: Ray knows not what was done already


def default_workers(cpus: float) -> int:
    """Oracle workers for a cluster of `cpus` CPUs: a third of them; 0 below four CPUs.

    The best share of the oracle is L / (L + T), with L the time to label a round and T the time to train on it;
    a third stands for a solver of a tenth of a second. A slower tool wants more, up to all CPUs but one. With 0,
    let the trials label for themselves (`CachedOracle`): two processes on one CPU gain nothing.
    """
    return 0 if cpus < 4 else round(cpus / 3)


@dataclass(frozen=True)
class ServiceOracle:
    """The oracle as trials see it. Travels to them like any other value; it holds only the desk's handle."""

    desk: Any
    identity: str
    """Of the oracle behind the desk, as in the cache."""
    tally: Tally = field(default_factory=Tally, compare=False)
    """What this process asked for. After a fault of the desk `bought` may leave out some, never add any."""

    def label(self, images: ImageBatch) -> Labels:
        """Labels from the cache or the workers; an image that stands twice in the batch is asked for once.

        Raises:
            OracleError: the oracle raised, its labels differ in shape or the desk did not come back.
            UsageError: the oracle says that it is used wrongly.
            StoreError: the cache cannot be reached.
        """
        keys = [image_key(self.identity, image) for image in images]
        first: dict[str, int] = {}
        for position, key in enumerate(keys):
            first.setdefault(key, position)
        pixels, indices = images.images.numpy(), images.indices.tolist()
        wanted = list(first.items())
        requests = deque(
            _Request([key for key, _ in chunk], pixels[[k for _, k in chunk]], [indices[k] for _, k in chunk])
            for chunk in (wanted[start : start + CHUNK] for start in range(0, len(wanted), CHUNK))
        )
        known: dict[str, Verdict] = {}
        bought = 0
        running: dict[Any, _Request] = {}
        while requests or running:
            while requests and len(running) < IN_FLIGHT:
                request = requests.popleft()
                running[self.desk.ask.remote(request.keys, request.images, request.indices)] = request
            [done], _ = ray.wait(list(running))
            request = running.pop(done)
            try:
                reply = ray.get(done)
            except RayActorError as error:
                request.wait(error)
                requests.appendleft(request)
                continue
            if isinstance(reply, Exception):
                raise reply
            for key, (new, entry) in zip(request.keys, reply, strict=True):
                verdict = decode(key, entry)
                if verdict is None:
                    raise OracleError(f"The label of image {key[:12]} was damaged on its way.")
                known[key] = verdict
                bought += new
        self.tally.asked += len(keys)
        self.tally.bought += bought
        return assemble([known[key] for key in keys], bought)


@dataclass
class _Request:
    """A part of a batch, as the desk gets it."""

    keys: list[str]
    images: np.ndarray
    indices: list[int]
    failures: int = 0

    def wait(self, error: RayActorError) -> None:
        """The desk is not there: give it time, within bounds."""
        self.failures += 1
        if self.failures > RETRIES:
            raise OracleError(
                f"The oracle's front desk has not come back for {RETRIES * PAUSE:.0f} s; is the machine of the "
                "sweep's driver still up?"
            ) from error
        time.sleep(PAUSE)


@dataclass(frozen=True)
class Service:
    """A running oracle service, for as long as somebody holds it. It ends with `close` or with its `with` block."""

    oracle: ServiceOracle
    """For the trials."""
    workers: list[Any]
    placement: PlacementGroup
    content: Any
    """What workers are made of anew: the oracle or a reference to it."""

    def report(self) -> dict[str, int]:
        """The desk's process id, and counts since it was last built: images solved, found in the cache, refused
        by the service (`time-out`, `poison`), `queued` and `queued_at_most`; `workers_lost` while at work.
        """
        counts: dict[str, int] = ray.get(self.oracle.desk.report.remote())
        return counts

    def close(self) -> None:
        """End desk and workers and give their CPUs back. Labels under way are lost, stored ones are not."""
        for actor in (self.oracle.desk, *self.workers):
            ray.kill(actor)
        remove_placement_group(self.placement)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_service(
    oracle: Oracle,
    workers: int,
    timeout: float,
    cache_folder: str | Path | Place,
    resource: str | None = None,
    *,
    queue_limit: int = QUEUE_LIMIT,
    patience: float = PATIENCE,
) -> Service:
    """Start the oracle's workers and its desk, before any trial is submitted.

    Args:
        workers: number of them, each on one CPU of its own; see `default_workers`.
        timeout: seconds after which a solve is stopped and its image refused; `inf` for never.
        cache_folder: the label cache, a folder of this machine or a URI; only the desk, which stays on this
            machine, reads and writes it.
        resource: a custom resource of which every worker takes 1, so that a cluster can name its machines.
        queue_limit: images waiting for a worker, beyond which callers wait for room.
        patience: seconds to wait for the workers' CPUs; a cluster that starts machines on demand needs minutes.

    Raises:
        UsageError: the cluster has no room for the workers, or the oracle does not start on them.
    """
    at_least("oracle service", 1, workers=workers, queue_limit=queue_limit)
    if math.isnan(timeout) or timeout <= 0:
        raise UsageError(f"oracle service: timeout is {timeout}; give a number of seconds above 0.")
    cache, identity = LabelStore(cache_folder), oracle_identity(oracle)
    bundle = {"CPU": 1.0, **({resource: 1.0} if resource else {})}
    placement = placement_group([bundle] * workers, strategy="SPREAD")
    if not placement.wait(patience):
        remove_placement_group(placement)
        has = ray.cluster_resources()
        told = ", ".join(f"{has.get(name, 0.0):g} {name}" for name in bundle)
        raise UsageError(
            f"{workers} oracle workers ask for 1 CPU each{f' and 1 {resource}' if resource else ''}, but the "
            f"cluster, which has {told} in all, had no room for them within {patience:g} s; "
            f"lower --oracle-workers{f', or add machines that have {resource}' if resource else ''}."
        )
    # Ray cannot restart an actor whose arguments have left the object store (its issue 53727): a small oracle
    # travels with the call, a large one is held by the service.
    content = ray.put(oracle) if len(ray.cloudpickle.dumps(oracle)) > INLINE else oracle
    # The desk finds the workers by name: handles among its arguments would be in the object store again.
    names = [f"oracle-{uuid.uuid4().hex}" for _ in range(workers)]
    remote: Any = ray.remote  # its type stubs lack concurrency groups
    crew: list[Any] = [
        remote(concurrency_groups={"talk": 2})(OracleWorker)
        .options(
            name=name,
            num_cpus=1,
            resources={resource: 1.0} if resource else None,
            scheduling_strategy=PlacementGroupSchedulingStrategy(placement, bundle_index),
            **LASTING,
        )
        .remote(content)
        for bundle_index, name in enumerate(names)
    ]
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    desk: Any = (
        remote(OracleDesk)
        .options(num_cpus=0, scheduling_strategy=here, max_concurrency=10_000, **LASTING)
        .remote(names, cache, timeout, queue_limit)
    )
    service = Service(ServiceOracle(desk, identity), crew, placement, content)
    try:
        ray.get([worker.state.remote() for worker in crew], timeout=patience)
        ray.get(desk.open.remote(), timeout=patience)
    except (RayActorError, RayTaskError, GetTimeoutError) as error:
        service.close()
        raise UsageError(
            f"The oracle {component_name(oracle)} does not start on a Ray worker: {str(error).strip().splitlines()[-1]}"
        ) from error
    return service
