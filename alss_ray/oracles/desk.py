"""The front desk of the oracle service: who asked for which label, and which worker is at it.

An async Ray actor without a CPU of its own. It looks labels up in the cache, queues what is missing, hands it
to idle workers one image at a time, stores what they find and only then answers. All it holds can be rebuilt:
callers ask again, labels are in the cache, and the workers keep what the cache does not have yet.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time
import traceback
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
from ray.exceptions import ActorDiedError, RayActorError

from alss_ray.files import StoreError
from alss_ray.oracles.cache import POISON, TIMED_OUT, LabelStore, OracleError, Verdict, decode, encode
from alss_ray.oracles.worker import Outcome, Task, WorkerState

KILLS = 2  # workers that an image may kill before it is refused
GRACE = 1.0  # seconds in which a worker that is told to die can do so by itself
POLL = 0.05  # seconds between two looks at a worker
ABSENCE = 600.0  # seconds without any worker after which those who wait are told


@dataclass(eq=False)
class Seat:
    """A worker, as the desk sees it."""

    worker: Any
    stored: list[str] = field(default_factory=list)
    """Keys that the worker need not keep any longer; told with its next task."""
    gone_since: float = math.inf
    """Monotonic time since when it does not answer; -inf once it never will."""


@dataclass(eq=False)
class Job:
    """One image for which somebody waits."""

    task: Task
    answer: asyncio.Future[tuple[bool, Outcome]] = field(default_factory=asyncio.Future)
    """Whether it was bought just now, and the outcome."""
    kills: int = 0


class OracleDesk:
    """The actor."""

    def __init__(self, workers: list[str], cache: LabelStore, timeout: float, queue_limit: int) -> None:
        self.seats = [Seat(ray.get_actor(name)) for name in workers]
        self.cache, self.timeout = cache, timeout
        self.jobs: dict[str, Job] = {}
        self.refused: dict[str, Outcome] = {}  # time-outs and poison: they hold for this desk's life
        self.unwritten: dict[str, Outcome] = {}  # the cache could not be written: tried again when asked for
        self.queue: asyncio.PriorityQueue[tuple[bool, int, Job]] = asyncio.PriorityQueue()
        self.order = itertools.count()
        self.room = asyncio.Semaphore(queue_limit)
        self.counts: Counter[str] = Counter()
        self.background: set[asyncio.Task[None]] = set()
        self.opened: asyncio.Future[None] | None = None

    async def ask(
        self, keys: list[str], images: np.ndarray, indices: list[int]
    ) -> list[tuple[bool, bytes]] | Exception:
        """For each image, whether this request bought its label, and the entry as the cache keeps it.

        Args:
            keys: different ones, by `image_key`.
            images: uint8 `k x C x H x W`.

        Returns:
            One tuple an image, in order; what is wrong with the oracle or the cache, as soon as that shows.
        """
        await self.open()
        fresh: list[Job] = []
        waiting: list[Job] = []
        for key, image, index in zip(keys, images, indices, strict=True):
            if key not in self.jobs:  # from here to the new entry nothing is awaited: two askers get one job
                self.jobs[key] = Job(Task(key, image, index))
                fresh.append(self.jobs[key])
            waiting.append(self.jobs[key])
        self._spawn(self._admit(fresh))
        mine = set(map(id, fresh))
        answers = [job.answer for job in waiting]
        pending: set[asyncio.Future[tuple[bool, Outcome]]] = set(answers)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for answer in done:
                if (failure := answer.result()[1].failure) is not None:
                    return failure
        return [(job.answer.result()[0] and id(job) in mine, job.answer.result()[1].entry) for job in waiting]

    async def open(self) -> None:
        """Take over the workers as they are; the first call does it, and all wait until it is done."""
        if self.opened is None:
            self.opened = asyncio.ensure_future(self._take_over())
        await asyncio.shield(self.opened)

    async def report(self) -> dict[str, int]:
        """This process and what it has done so far."""
        return {"pid": os.getpid(), **self.counts, "queued": self.queue.qsize()}

    async def _take_over(self) -> None:
        # No work is given out before every worker has said what it holds: else it could be given out twice.
        states = await asyncio.gather(*(self._present(seat) for seat in self.seats))
        for seat, state in zip(self.seats, states, strict=True):
            held = None
            if state.task is not None and state.task.key not in state.kept:
                held = self.jobs[state.task.key] = Job(state.task)
            for key, outcome in state.kept.items():
                await self._keep(seat, key, outcome)
            self._spawn(self._employ(seat, held, state.seconds))

    async def _admit(self, jobs: list[Job]) -> None:
        """Answer jobs from the cache; queue the others, as there is room."""
        try:
            found = await asyncio.to_thread(lambda: [self.cache.read(job.task.key) for job in jobs])
        except StoreError as error:
            for job in jobs:
                self._settle(job, Outcome(failure=error), False)
            return
        for job, entry in zip(jobs, found, strict=True):
            key = job.task.key
            if entry is not None:
                self.counts["found"] += 1
                self._settle(job, Outcome(entry), False)
            elif key in self.refused:
                self._settle(job, self.refused[key], False)
            elif key in self.unwritten:
                self._spawn(self._deliver(None, job, self.unwritten.pop(key)))
            else:
                await self.room.acquire()
                self._queue(job, True)
                self.counts["queued_at_most"] = max(self.counts["queued_at_most"], self.queue.qsize())

    def _queue(self, job: Job, new: bool) -> None:
        self.queue.put_nowait((new, next(self.order), job))  # what comes back from a lost worker goes first

    async def _employ(self, seat: Seat, held: Job | None, seconds: float) -> None:
        """Give one worker work for as long as there is a desk."""
        if held is not None:
            self._conclude(seat, held, await self._follow(seat, held, self.timeout - seconds))
        while True:
            if math.isfinite(seat.gone_since):
                await self._present(seat)
            idle = self.queue.empty()
            new, order, job = await self.queue.get()
            if idle and await self._look(seat) is None:  # it died while idle: not this image's doing
                seat.gone_since = time.monotonic()
                self.queue.put_nowait((new, order, job))
                continue
            if new:
                self.room.release()
            if not job.answer.done():
                self._conclude(seat, job, await self._attempt(seat, job))

    async def _attempt(self, seat: Seat, job: Job) -> Outcome | None:
        """What the worker made of the job; a refusal where it took too long; None where the worker was lost."""
        started = time.monotonic()
        stored, seat.stored = seat.stored, []
        try:
            outcome: Outcome = await asyncio.wait_for(
                _result(seat.worker.solve.remote(job.task, stored)), _limit(self.timeout)
            )
        except asyncio.TimeoutError:
            return await self._stop(seat, job)
        except RayActorError:  # dead, or only out of reach for a moment and still at it
            seat.stored += stored
            return await self._follow(seat, job, self.timeout - (time.monotonic() - started))
        return outcome

    async def _follow(self, seat: Seat, job: Job, seconds: float) -> Outcome | None:
        """As `_attempt`, for a job that the worker holds already."""
        until = time.monotonic() + seconds
        while True:
            try:
                state = await self._look(seat, _limit(max(until - time.monotonic(), GRACE)))
            except asyncio.TimeoutError:
                return await self._stop(seat, job)
            if state is None or (state.task is None and job.task.key not in state.kept):
                return None
            if job.task.key in state.kept:
                return state.kept[job.task.key]
            if time.monotonic() > until:
                return await self._stop(seat, job)
            await asyncio.sleep(POLL)

    def _conclude(self, seat: Seat, job: Job, outcome: Outcome | None) -> None:
        """Deliver an outcome, or bring back the job of a lost worker."""
        if outcome is None:
            seat.gone_since = time.monotonic()
            self.counts["workers_lost"] += 1
            job.kills += 1
            if job.kills < KILLS:
                self._queue(job, False)
                return
            outcome = self._refusal(job, POISON)
        self._spawn(self._deliver(seat, job, outcome))  # while this is stored, the worker takes the next

    async def _deliver(self, seat: Seat | None, job: Job, outcome: Outcome) -> None:
        """Store, then answer: what a caller has been told is in the cache."""
        outcome = await self._keep(seat, job.task.key, outcome)
        self.counts["solved"] += outcome.failure is None and job.task.key not in self.refused
        self._settle(job, outcome, True)

    async def _keep(self, seat: Seat | None, key: str, outcome: Outcome) -> Outcome:
        """Put an outcome into the cache and tell its worker so; a failure instead if that is not possible."""
        verdict = decode(key, outcome.entry)
        if verdict is not None and verdict.lasting:
            try:
                await asyncio.to_thread(self.cache.write, key, outcome.entry)
            except StoreError as error:
                self.unwritten[key] = outcome  # and the worker keeps it, should this desk be killed
                return Outcome(failure=error)
        if seat is not None:
            seat.stored.append(key)
        return outcome

    def _refusal(self, job: Job, reason: str) -> Outcome:
        """An outcome of the service's own making. It is not stored: another day the image may get its label."""
        self.counts[reason] += 1
        outcome = self.refused[job.task.key] = Outcome(encode(job.task.key, Verdict(refusal=reason)))
        return outcome

    def _settle(self, job: Job, outcome: Outcome, bought: bool) -> None:
        self.jobs.pop(job.task.key, None)
        if not job.answer.done():
            job.answer.set_result((bought, outcome))

    async def _stop(self, seat: Seat, job: Job) -> Outcome:
        """Kill the worker over a job that takes too long. C code heeds no exception, so the process has to go."""
        await self._kill(seat)
        seat.gone_since = time.monotonic()
        return self._refusal(job, TIMED_OUT)

    async def _kill(self, seat: Seat) -> None:
        try:
            ended = seat.worker.end.options(concurrency_group="talk").remote()
            await asyncio.wait_for(_result(ended), GRACE)
        except asyncio.TimeoutError:  # C code that does not let go of the interpreter
            ray.kill(seat.worker, no_restart=False)
        except RayActorError:
            pass  # as it should

    async def _look(self, seat: Seat, seconds: float | None = None) -> WorkerState | None:
        """What the worker is doing; None if there is no such process at the moment."""
        try:
            state = seat.worker.state.options(concurrency_group="talk").remote()
            found: WorkerState = await asyncio.wait_for(_result(state), seconds)
        except ActorDiedError:  # for good: not even Ray can make it anew
            seat.gone_since = -math.inf
            return None
        except RayActorError:
            return None
        return found

    async def _present(self, seat: Seat) -> WorkerState:
        """Wait until the worker is there again; if all are gone for long, tell those who wait for labels."""
        seat.gone_since = min(seat.gone_since, time.monotonic())
        while True:
            try:
                state = await self._look(seat, _limit(self.timeout + GRACE))
            except asyncio.TimeoutError:
                await self._kill(seat)
                state = None
            if state is not None:
                seat.gone_since = math.inf
                return state
            if time.monotonic() - max(each.gone_since for each in self.seats) > ABSENCE:
                told = (
                    f"No oracle worker can be started again, or none has come back for {ABSENCE:.0f} s; look at "
                    "the cluster's machines (ray status) and at what the oracle needs there."
                )
                for job in list(self.jobs.values()):
                    self._settle(job, Outcome(failure=OracleError(told)), False)
            await asyncio.sleep(POLL)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self.background.add(task)  # asyncio itself holds tasks by weak reference only
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            traceback.print_exception(task.exception())
            os._exit(1)  # without this part of it, callers would wait for ever; Ray rebuilds the desk


def _limit(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


async def _result(reference: Any) -> Any:
    return await reference
