"""NixlConnector: the decode replica comes for the blocks that the prefill replica has kept.

As long as it has no room for them, it has their lease renewed.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from sim.engine import Engine
from sim.replica.faults import Condition
from sim.replica.generation import Generation
from sim.replica.kv_transfer.connector import FetchEnded
from sim.replica.kv_transfer.link import Link
from sim.replica.kv_transfer.metrics import NixlMetrics
from sim.replica.kv_transfer.params import KvTransferParams, Source, params_for_second_leg
from sim.replica.kv_transfer.side_channel import PeerGoneError, SideChannel, Wish, ask
from sim.replica.settings import KvTransfer

HANDSHAKE_LIMIT_S = 5.0
"""How long vLLM tries to reach a replica that it has not met before. Of one that it has met it knows at once."""

RENEWALS_PER_LEASE = 6


class NixlConnector:
    def __init__(
        self,
        settings: KvTransfer,
        port: int,
        engine: Engine,
        speed: float,
        metrics: NixlMetrics,
        condition: Callable[[], Condition],
        on_release: Callable[[], None],
    ) -> None:
        """``on_release``: blocks of the engine have become free."""
        self.port = port
        self._engine_id = str(uuid.uuid4())
        self._host = settings.host
        self._renewal_s = engine.config.kv_lease_duration_s / RENEWALS_PER_LEASE
        self._metrics = metrics
        self._condition = condition
        self._incoming = Link(settings.model, speed)
        self._channel = SideChannel(self._engine_id, engine, Link(settings.model, speed), on_release, metrics.late)
        self._met: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.port = await self._channel.start(self._host, self.port)

    async def stop(self) -> None:
        await self._channel.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, generation: Generation, params: KvTransferParams | None) -> None:
        if params is None:
            return
        request = generation.request
        request.keep_for_transfer = params.do_remote_decode
        generation.source = params.source
        if generation.source is not None:
            request.remote_tokens = request.prompt_tokens
            generation.reported_cached_tokens = params.remote_prefill_cached_tokens
            self._spawn(self._keep_on(generation))

    def fetch(self, generation: Generation, ended: FetchEnded) -> None:
        source, generation.source = generation.source, None
        assert source is not None
        self._spawn(self._fetch(source, generation.request.fetched_tokens, ended))

    def finished(self, generation: Generation) -> None:
        request = generation.request
        if request.keep_for_transfer:
            generation.kv_transfer_params = params_for_second_leg(request, self._engine_id, self._host, self.port)

    def refused(self, params: KvTransferParams) -> None:
        self._give_back(params.source)

    def left(self, generation: Generation) -> None:
        source, generation.source = generation.source, None
        self._give_back(source)

    def _give_back(self, source: Source | None) -> None:
        """The blocks there are of no use to anybody any more."""
        if source is not None:
            self._spawn(self._release(source))

    async def _fetch(self, source: Source, tokens: int, ended: FetchEnded) -> None:
        try:
            await self._transfer(source, tokens)
        except PeerGoneError:
            self._metrics.failed()
            ended(False)
        else:
            ended(True)

    async def _transfer(self, source: Source, tokens: int) -> None:
        clock = asyncio.get_running_loop().time
        if self._condition().fails_transfers:
            raise PeerGoneError("a fault")
        await asyncio.sleep(self._incoming.latency_s)
        began_s = clock()
        through_s = began_s + self._incoming.reserve(tokens, began_s)
        try:
            await ask(Wish.FETCH, source, tokens)
        except PeerGoneError:
            if source.engine_id not in self._met:
                await asyncio.sleep(max(0.0, began_s + HANDSHAKE_LIMIT_S - clock()))
            raise
        self._met.add(source.engine_id)
        await asyncio.sleep(max(0.0, through_s - clock()))
        self._metrics.transferred(clock() - began_s, self._incoming.bytes(tokens))

    async def _release(self, source: Source) -> None:
        try:
            await ask(Wish.RELEASE, source)
        except PeerGoneError:
            self._metrics.notification_failed()

    async def _keep_on(self, generation: Generation) -> None:
        """While it waits for room."""
        while True:
            await asyncio.sleep(self._renewal_s)
            if generation.source is None:
                return
            with suppress(PeerGoneError):
                await ask(Wish.KEEP_ON, generation.source)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
