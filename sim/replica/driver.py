"""Runs an engine against the event loop's clock: a step takes as long as the model says, then its tokens exist."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from sim.engine import Engine, Request, Status, StepResult
from sim.replica.generation import Generation
from sim.replica.kv_messages import EventWriter, Origin
from sim.replica.kv_transfer.connector import Connector
from sim.replica.metrics import Metrics

CATCH_UP_S = 0.05
"""A step that begins late by no more than this ends when it would have, so that timers' errors do not add up."""

LEASE_CHECK_S = 0.05
"""An engine at rest looks so often whether blocks that it keeps for others have been kept long enough."""

Publish = Callable[[Sequence[msgspec.Struct]], None]


class Driver:
    """One engine and the generations in it."""

    def __init__(
        self,
        engine: Engine,
        speed: float,
        writer: EventWriter,
        publish: Publish,
        metrics: Metrics,
        connector: Connector,
    ) -> None:
        """``speed`` 2 runs twice as fast as the profile says."""
        self.engine = engine
        self.slowness = 1.0
        """Factor on the duration of steps."""
        self.moving = asyncio.Event()
        """Cleared, the engine hangs: no step ends any more."""
        self.moving.set()
        self._speed = speed
        self._writer = writer
        self._publish = publish
        self._metrics = metrics
        self._connector = connector
        self._generations: dict[Request, Generation] = {}
        self._work = asyncio.Event()

    @property
    def in_flight(self) -> int:
        return len(self._generations)

    def submit(self, generation: Generation) -> None:
        """Queue it in the engine. Raises ValueError when it can never be served."""
        generation.arrived_s = time.monotonic()
        self.engine.submit(generation.request, generation.arrived_s)
        self._generations[generation.request] = generation
        self._work.set()

    def abort(self, generation: Generation) -> None:
        """The client has gone: the request leaves the engine now."""
        if self._generations.pop(generation.request, None) is not None:
            request_id = generation.request.id
            if not self.engine.abort(request_id):
                self.engine.release(request_id)  # it ends with the step under way, and nobody will hear of its blocks
            self._work.set()

    def look_again(self) -> None:
        """Blocks have become free: what waits for some may begin."""
        self._work.set()

    def end_all(self) -> None:
        """Every answer under way ends early with finish_reason ``abort``."""
        for generation in list(self._generations.values()):
            self.abort(generation)
            self._metrics.aborted()
            generation.end("abort")

    async def run(self) -> None:
        """Until cancelled."""
        due_s = 0.0
        while True:
            if not self.engine.has_work:
                await self._rest()
                due_s = time.monotonic()
            now_s = time.monotonic()
            result = self.engine.step(now_s)
            for request in result.fetching:
                self._fetch(self._generations[request])
            events = self._writer.events(result.events, self._origin)
            due_s = max(due_s, now_s - CATCH_UP_S) + result.duration_s * self.slowness / self._speed
            await asyncio.sleep(max(0.0, due_s - now_s))
            await self.moving.wait()
            if events:
                self._publish(events)
            self._deliver(result, time.monotonic())

    async def _rest(self) -> None:
        """Until there is something to compute."""
        while not self.engine.has_work:
            self._work.clear()
            try:
                await asyncio.wait_for(self._work.wait(), LEASE_CHECK_S if self.engine.kept else None)
            except TimeoutError:
                self.engine.expire_leases(time.monotonic())

    def _fetch(self, generation: Generation) -> None:
        self._connector.fetch(generation, lambda arrived: self._fetch_ended(generation, arrived=arrived))

    def _fetch_ended(self, generation: Generation, *, arrived: bool) -> None:
        request = generation.request
        if arrived:
            self.engine.kv_arrived(request.id)
        else:
            self.engine.kv_failed(request.id)
        if request.status is Status.FAILED:
            self._generations.pop(request, None)
            self._metrics.failed()
            generation.end("error")
        self._work.set()

    def _origin(self, request: Request) -> Origin:
        return self._generations[request].origin

    def _deliver(self, result: StepResult, now_s: float) -> None:
        self._metrics.stepped(result)
        for request in result.emitted:
            generation = self._generations.get(request)
            if generation is None:
                continue
            self._metrics.emitted(generation, now_s)
            generation.emit()
        for request in result.finished:
            generation = self._generations.pop(request, None)
            if generation is not None:
                self._metrics.finished(generation, now_s)
                self._connector.finished(generation)
                generation.end(generation.planned_reason)
