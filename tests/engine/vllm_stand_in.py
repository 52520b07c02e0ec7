"""A vLLM server as the engine side sees it: real HTTP and ZMQ sockets, and a router that can be waited for."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
import zmq
from aiohttp import web

from router.core.index.batch import KvBatch
from router.core.index.prefix_index import Applied
from router.core.router import Router
from router.core.types import Health, IndexState, LoadReport, ReplicaSpec
from router.engine.context import EngineContext
from router.engine.trouble import Troubles
from router.profiles import make_profiles

BLOCK = 4
END = b"\xff" * 8


class WatchedRouter(Router):
    """The router; ``until`` waits for a fact that makes a condition true."""

    def __init__(self) -> None:
        super().__init__(make_profiles({}, "default"), seed=1)
        self.loads: dict[str, LoadReport] = {}
        self.history: list[tuple[object, ...]] = []
        self._told = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._told.clear()
                await self._told.wait()

    def health_of(self, name: str) -> Health | None:
        slot = self.fleet.slot(name)
        return None if slot is None else self.fleet.health[slot]

    def state_of(self, name: str) -> IndexState | None:
        slot = self.fleet.slot(name)
        return None if slot is None else self.fleet.index_states[slot]

    def held(self, name: str) -> int:
        slot = self.fleet.slot(name)
        return 0 if slot is None else self.index.held_blocks(slot)

    def spec(self, name: str) -> ReplicaSpec | None:
        slot = self.fleet.slot(name)
        return None if slot is None else self.fleet.specs[slot]

    @property
    def names(self) -> set[str]:
        return {spec.name for _, spec in self.fleet}

    def on_replica(self, spec: ReplicaSpec, now: float) -> None:
        super().on_replica(spec, now)
        self._note("replica", spec.name)

    def on_replica_gone(self, name: str, now: float) -> None:
        super().on_replica_gone(name, now)
        self._note("gone", name)

    def on_health(self, name: str, health: Health, now: float) -> None:
        super().on_health(name, health, now)
        self._note("health", name, health)

    def on_load(self, name: str, report: LoadReport, now: float) -> None:
        super().on_load(name, report, now)
        self.loads[name] = report
        self._note("load", name)

    def on_kv_events(self, name: str, batch: KvBatch, now: float) -> Applied:
        applied = super().on_kv_events(name, batch, now)
        self._note("events", name, len(batch))
        return applied

    def on_index_state(self, name: str, state: IndexState, now: float) -> None:
        super().on_index_state(name, state, now)
        self._note("state", name, state)

    def on_index_reset(self, name: str, now: float) -> None:
        super().on_index_reset(name, now)
        self._note("reset", name)

    def _note(self, *fact: object) -> None:
        self.history.append(fact)
        self._told.set()


def new_context(router: WatchedRouter, session: aiohttp.ClientSession) -> EngineContext:
    clock = asyncio.get_running_loop().time
    return EngineContext(router, session, clock, Troubles(clock))


def stored(*hashes: int, parent: int | None = None, **more: Any) -> dict[str, Any]:
    """A BlockStored event; the tokens of a block are made from its hash."""
    tokens = [hash_ % 10_000 for hash_ in hashes for _ in range(BLOCK)]
    event = {"type": "BlockStored", "block_hashes": hashes, "parent_block_hash": parent, "token_ids": tokens}
    return {**event, "block_size": BLOCK, "lora_id": None, "medium": "GPU", "lora_name": None, **more}


CLEARED = {"type": "AllBlocksCleared"}


class Publisher:
    """Publishes as vLLM's ``ZmqEventPublisher`` does."""

    def __init__(self, replays: bool = True, buffer_messages: int = 100, topic_in_replay: bool = True) -> None:
        self.replays = replays
        self.answers_replays = True
        self.topic_in_replay = topic_in_replay
        self._buffer: deque[tuple[int, bytes]] = deque(maxlen=buffer_messages)
        self._ports = (0, 0)
        self._bind()

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self._ports[0]}"

    @property
    def replay_endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self._ports[1]}" if self.replays else ""

    def publish(self, *events: dict[str, Any], lost: bool = False) -> None:
        """One message; a lost one can only be had by replay."""
        payload = msgspec.msgpack.encode([self._next / 10, list(events), 0])
        seq, self._next = self._next, self._next + 1
        self._buffer.append((seq, payload))
        if not lost:
            self.send(b"kv@m", seq.to_bytes(8, "big"), payload)

    def send(self, *frames: bytes) -> None:
        self._pub.send_multipart(frames)

    def skip(self) -> int:
        """Uses up a sequence number."""
        self._next += 1
        return self._next - 1

    def restart(self) -> None:
        """Another process at the same ports."""
        self.close()
        self._buffer.clear()
        self._bind()

    def pause(self) -> None:
        """Nobody listens at the ports until ``restart``."""
        self.close()

    def close(self) -> None:
        if self._zmq.closed:
            return
        asyncio.get_running_loop().remove_reader(self._router.fileno())
        self._pub.close(0)
        self._router.close(0)
        self._zmq.term()

    def _bind(self) -> None:
        self._next = 0
        self._zmq = zmq.Context()
        self._pub, self._router = self._zmq.socket(zmq.PUB), self._zmq.socket(zmq.ROUTER)
        for socket, port in zip((self._pub, self._router), self._ports, strict=True):
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.SNDHWM, 100_000)
            socket.bind(f"tcp://127.0.0.1:{port or '*'}")
        pub_port, router_port = (
            int(socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").rpartition(b":")[2])
            for socket in (self._pub, self._router)
        )
        self._ports = (pub_port, router_port)
        asyncio.get_running_loop().add_reader(self._router.fileno(), self._serve_replay)

    def _serve_replay(self) -> None:
        while self._router.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            client, empty, first = self._router.recv_multipart()
            if not self.answers_replays:
                continue
            topic = [b"kv@m"] if self.topic_in_replay else []
            for seq, payload in self._buffer:
                if seq >= int.from_bytes(first, "big"):
                    self._router.send_multipart([client, empty, *topic, seq.to_bytes(8, "big"), payload])
            self._router.send_multipart([client, empty, *topic[:0], b"", END, b""])


class Server:
    """HTTP side of a vLLM server. What it answers can be changed at any time; None is a 404."""

    def __init__(self) -> None:
        self.health = 200
        self.models_status = 200
        self.hangs = False
        self.models: Any = {"data": [{"id": "m", "parent": None, "max_model_len": 8192}, {"id": "sql", "parent": "m"}]}
        self.sources: Any = None
        self.running = 0
        self.started_s = 1000.0
        self.cache = 'engine="0",block_size="4",num_gpu_blocks="100"'
        self.asked: list[str] = []
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def metrics(self) -> str:
        return (
            f"process_start_time_seconds {self.started_s}\n"
            f'vllm:num_requests_running{{engine="0",model_name="m"}} {self.running}\n'
            f"vllm:cache_config_info{{{self.cache}}} 1.0\n"
        )

    async def start(self) -> None:
        """Listens, at the same port as before if it did before."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._stopping = asyncio.Event()
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            self._stopping.set()
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.path
        self.asked.append(path)
        if self.hangs:
            await self._stopping.wait()
        if path == "/health":
            return web.Response(status=self.health)
        if path == "/metrics":
            return web.Response(text=self.metrics)
        if path == "/v1/models" and self.models_status != 200:
            return web.Response(status=self.models_status)
        body = {"/v1/models": self.models, "/kv_event_sources": self.sources}.get(path)
        if body is None:
            return web.Response(status=404)
        return web.Response(text=body if isinstance(body, str) else json.dumps(body))
