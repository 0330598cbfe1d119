"""Sharing stage 1 between all trials of a sweep, on one machine or several: a desk that hands out the training.

The desk is a Ray actor before the folder of trained generators, which may lie on an object store. Whoever asks
first for a generator is told to train it, inside the resources it holds anyway, so waiting can never starve the
training; the others wait at the desk. The trainer renews its lease while it works and sends its snapshots. A lease
that runs out (the trainer or its machine died) goes to the next in line, who goes on from the last snapshot, and a file
is handed out only when it is whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from alss_ray.files import told
from alss_ray.generators.store import GeneratorStore, Request, Stocked, default_folder
from alss_ray.places import Place

LEASE = 15.0  # seconds without a renewal after which a trainer counts as lost
POLL = 0.1  # seconds between a waiting caller's looks at the folder
POLL_ELSEWHERE = 2.0  # the same on an object store, where every look is a request


class GeneratorDesk:
    """The actor. It holds nothing but leases, so it may be restarted at any time."""

    def __init__(self, folder: Place, lease: float) -> None:
        self.store, self.lease = GeneratorStore(folder), lease
        self.poll = POLL if folder.local is not None else POLL_ELSEWHERE
        self.leases: dict[str, tuple[str, float]] = {}

    async def claim(self, key: str, caller: str) -> bytes | None:
        """The trained generator's file, waiting for it if need be; None if the caller is to train it."""
        while True:
            # In a thread: leases are renewed also while a store that is away is asked again.
            content = await asyncio.to_thread(self.store.content, key)
            if content is not None:
                self.leases.pop(key, None)
                return content
            if self._leased(key, caller):
                return None
            await asyncio.sleep(self.poll)

    async def wait_turn(self, name: str, caller: str) -> None:
        """Return when the caller has something to itself that is no generator; the lease is the same."""
        while not self._leased(name, caller):
            await asyncio.sleep(POLL)

    def _leased(self, key: str, caller: str) -> bool:
        """Give the caller the lease, unless another one holds it."""
        holder, until = self.leases.get(key, (caller, 0.0))
        if holder != caller and until >= time.monotonic():
            return False
        self.leases[key] = caller, time.monotonic() + self.lease
        return True

    async def renew(self, key: str, caller: str) -> None:
        """The caller is still training."""
        self.leases[key] = caller, time.monotonic() + self.lease

    async def release(self, key: str, caller: str) -> None:
        """The caller has given up: the next in line need not wait for the lease to run out."""
        if self.leases.get(key, ("", 0.0))[0] == caller:
            del self.leases[key]

    async def deliver(self, key: str, content: bytes) -> None:
        """The caller has trained it: keep the file where later sweeps find it."""
        if await asyncio.to_thread(self.store.content, key) is None:
            await asyncio.to_thread(self.store.path(key).write, content)
        await asyncio.to_thread(self.store.snapshot(key).delete)

    async def keep(self, key: str, snapshot: bytes) -> None:
        """The caller has come this far: whoever takes the training over goes on from there."""
        if await asyncio.to_thread(self.store.content, key) is None:  # else it comes late
            await asyncio.to_thread(self.store.snapshot(key).write, snapshot)

    async def unfinished(self, key: str) -> bytes | None:
        """The last snapshot of the training; None where there is none."""
        try:
            return await asyncio.to_thread(self.store.snapshot(key).read)
        except FileNotFoundError:
            return None


def open_desk(folder: str | Path | Place, lease: float = LEASE) -> Any:
    """Start a desk on this machine for as long as the returned handle lives."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "max_concurrency": 10_000}
    return ray.remote(GeneratorDesk).options(scheduling_strategy=here, **options).remote(Place(folder), lease)


@dataclass(frozen=True)
class DeskSource:
    """A trial's way to the desk, with a folder on the trial's own machine in front of it."""

    desk: Any
    local: GeneratorStore
    lease: float = LEASE

    @classmethod
    def before(cls, folder: Place) -> DeskSource:
        """A desk before a folder; trials look there themselves first, or in the usual one if it is elsewhere."""
        return cls(open_desk(folder), GeneratorStore(default_folder() if folder.local is None else folder))

    def obtain(self, request: Request) -> Stocked:
        """The trained generator: from this machine, from the desk, or by training it here."""
        started = time.monotonic()
        embedding = self.local.load(request)
        if embedding is not None:
            return Stocked(embedding, request.key, False, time.monotonic() - started)
        caller, path = uuid.uuid4().hex, self.local.path(request.key)
        content = _answer(self.desk.claim.remote(request.key, caller))
        if content is not None:
            with told("The generator", self.local.folder):
                path.write(content)
        try:
            with self._renewed(request.key, caller):
                if content is None and (snapshot := _answer(self.desk.unfinished.remote(request.key))):
                    with told("The generator's training", self.local.folder):
                        self.local.snapshot(request.key).write(snapshot)
                stocked = self.local.obtain(request, lambda part: self.desk.keep.remote(request.key, part))
                if content is None:
                    with told("The generator", self.local.folder):
                        _answer(self.desk.deliver.remote(request.key, path.read()))
        except BaseException:
            ray.get(self.desk.release.remote(request.key, caller))
            raise
        return Stocked(stocked.embedding, request.key, stocked.trained, time.monotonic() - started)

    @contextlib.contextmanager
    def turn(self, name: str, caller: str) -> Iterator[None]:
        """Wait until no other caller is in a turn of this name. A caller that died and comes again need not wait."""
        ray.get(self.desk.wait_turn.remote(name, caller))
        try:
            with self._renewed(name, caller):
                yield
        finally:
            ray.get(self.desk.release.remote(name, caller))

    @contextlib.contextmanager
    def _renewed(self, key: str, caller: str) -> Iterator[None]:
        """Renew the lease in the background."""
        done = threading.Event()

        def work() -> None:
            while not done.wait(self.lease / 4):
                self.desk.renew.remote(key, caller)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _answer(asked: Any) -> Any:
    """What the desk says; its errors come as they were raised, without Ray's account of them."""
    try:
        return ray.get(asked)
    except RayTaskError as error:
        raise error.cause from None
