"""One simulated replica and its life: start, faults, restart, stop."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from sim.engine import Engine
from sim.replica.binding import bound, port_of
from sim.replica.driver import Driver
from sim.replica.faults import Condition, Fault, FaultKind
from sim.replica.kv_messages import EventWriter
from sim.replica.kv_transfer.connector import Connector, NoConnector
from sim.replica.kv_transfer.making import make_connector
from sim.replica.language import Language
from sim.replica.metrics import Metrics
from sim.replica.planner import Planner
from sim.replica.publisher import Publisher
from sim.replica.server import MAX_BODY_BYTES, Server
from sim.replica.settings import Settings

KEEP_ALIVE_S = 5.0
"""After which vLLM's server closes an idle connection."""

ANSWER_FIRST_S = 0.02
"""Time for the answer to the request that asked for the crash."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Replica:
    """Serves HTTP and publishes KV events from ``start`` to ``stop``; crashes and comes back in between."""

    def __init__(self, settings: Settings, language: Language) -> None:
        self.settings = settings
        self.condition = Condition()
        self.port = settings.port
        self.kv_events_port = settings.kv_events_port
        self.kv_replay_port = settings.kv_replay_port
        self.starts = 0
        self.engine: Engine
        self.driver: Driver
        self._language = language
        self._publisher: Publisher | None = None
        self._connector: Connector = NoConnector()
        self._kv_transfer_port = settings.kv_transfer.port if settings.kv_transfer is not None else 0
        self._server: web.Server
        self._listener: asyncio.Server
        self._driving: asyncio.Task[None]
        self._fault: asyncio.Task[None] | None = None
        self._up = False

    @property
    def url(self) -> str:
        return f"http://{self.settings.host}:{self.port}"

    async def start(self) -> None:
        """Begin with an empty cache and sequence number 0. Raises OSError when a port is taken."""
        settings = self.settings
        self.condition = Condition()
        self.engine = Engine(settings.engine)
        metrics = Metrics(self.engine, settings.model, settings.kv_transfer)
        await self._start_connector(metrics)
        await self._start_publisher()
        writer = EventWriter(settings.event_form, settings.engine.block_size_tokens)
        self.driver = Driver(self.engine, settings.speed, writer, self._publish, metrics, self._connector)
        planner = Planner(settings, self._language, self.starts)
        handler = Server(settings, self._language, planner, self.driver, metrics, self._connector, self)
        self._server = web.Server(
            handler.handle,
            request_factory=_request_factory,
            handler_cancellation=True,
            keepalive_timeout=KEEP_ALIVE_S,
            access_log=None,
        )
        loop = asyncio.get_running_loop()
        self._listener = await bound(lambda: loop.create_server(self._server, settings.host, self.port))
        self.port = port_of(self._listener)
        self._driving = asyncio.create_task(self.driver.run())
        self.starts += 1
        self._up = True

    async def stop(self) -> None:
        """As vLLM on SIGTERM by default: the port closes, answers under way end with finish_reason ``abort``."""
        if self._fault is not None:
            self._fault.cancel()
            await asyncio.gather(self._fault, return_exceptions=True)
        if not self._up:
            await self._stop_publisher()
            return
        self._listener.close()
        self.driver.moving.set()
        self.driver.end_all()
        await self._server.shutdown(timeout=1.0)
        await self._stop_engine()

    def apply(self, fault: Fault) -> None:
        """Bring about a fault, after the answer to whoever asked for it has left."""
        match fault.kind:
            case FaultKind.CRASH | FaultKind.RESTART:
                down_s = fault.down_s if fault.kind is FaultKind.CRASH else 0.0
                self._fault = asyncio.create_task(self.crash(down_s))
            case FaultKind.HANG:
                self.driver.moving.clear()
            case FaultKind.SLOW:
                self.driver.slowness = fault.factor
            case FaultKind.REFUSE:
                self.condition.refuses = True
            case FaultKind.DRAIN:
                self.condition.drains = True
            case FaultKind.DROP_EVENTS:
                self.condition.drops_replayable = fault.replayable
                self._drop_events(fault.batches)
            case FaultKind.FAIL_TRANSFERS:
                self.condition.fails_transfers = True
            case FaultKind.FAIL_PREFILLS:
                self.condition.fails_prefills = True
            case FaultKind.HANG_PREFILLS:
                self.condition.prefills_go_on.clear()
            case FaultKind.NONE:
                self.condition.prefills_go_on.set()
                self.condition = Condition()
                self.driver.slowness = 1.0
                self.driver.moving.set()
                self._drop_events(0)

    async def crash(self, down_s: float) -> None:
        """Reset every connection, be gone for ``down_s``, come back with nothing."""
        await asyncio.sleep(ANSWER_FIRST_S)
        self._listener.close()
        for connection in self._server.connections:
            _reset(connection)
        await self._stop_engine()
        await self._server.shutdown(timeout=0.0)
        await asyncio.sleep(down_s)
        await self.start()

    def event_sources(self) -> dict[str, Any]:
        """The answer of /kv_event_sources, by data-parallel rank."""
        if self._publisher is None:
            return {}
        return {
            "0": {
                "enable_kv_cache_events": True,
                "publisher": "zmq",
                "endpoint": f"tcp://*:{self.kv_events_port}",
                "replay_endpoint": f"tcp://*:{self.kv_replay_port}",
                "buffer_steps": self.settings.buffer_steps,
                "hwm": 100_000,
                "max_queue_size": 100_000,
                "topic": self.settings.topic,
            }
        }

    async def _start_connector(self, metrics: Metrics) -> None:
        port = self._kv_transfer_port
        self._connector = make_connector(
            self.settings, port, self.engine, metrics, lambda: self.condition, lambda: self.driver.look_again()
        )
        await self._connector.start()
        self._kv_transfer_port = self._connector.port

    async def _start_publisher(self) -> None:
        settings = self.settings
        if self.kv_events_port is None:
            return
        self._publisher = Publisher(
            settings.host, self.kv_events_port, self.kv_replay_port, settings.topic, settings.buffer_steps
        )
        await self._publisher.start()
        self.kv_events_port, self.kv_replay_port = self._publisher.port, self._publisher.replay_port

    def _publish(self, events: Sequence[msgspec.Struct]) -> None:
        if self._publisher is not None:
            self._publisher.publish(events, replayable=self.condition.drops_replayable)

    def _drop_events(self, batches: int) -> None:
        if self._publisher is not None:
            self._publisher.drop_batches = batches

    async def _stop_engine(self) -> None:
        self._up = False
        self._driving.cancel()
        await asyncio.gather(self._driving, return_exceptions=True)
        await self._connector.stop()
        await self._stop_publisher()

    async def _stop_publisher(self) -> None:
        if self._publisher is not None:
            await self._publisher.stop()
            self._publisher = None


def _request_factory(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)


def _reset(connection: Any) -> None:
    """Close a connection with RST, as the kernel does when a process dies with data unread."""
    transport = connection.transport
    if transport is None:
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
