"""A simulated replica on this machine, and what a client and a router do with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
import zmq
import zmq.asyncio

from sim.engine import EngineConfig, StepTime
from sim.replica.replica import Replica
from sim.replica.serving import serve_replicas
from sim.replica.settings import Settings

END_OF_REPLAY = b"\xff" * 8
DEADLINE_S = 20.0

QUICK = StepTime(fixed_ps=2 * 10**9, prefill_token_ps=10**6, attention_pair_ps=0, decode_seq_ps=0, context_token_ps=0)
"""2 ms a step."""

ENGINE = EngineConfig(QUICK, num_blocks=129, block_size_tokens=16, max_model_len_tokens=1024)


def settings(**changes: Any) -> Settings:
    return Settings(**{"engine": ENGINE, "model": "tiny", **changes})


@dataclass
class Client:
    """A replica and an HTTP session to talk to it."""

    replica: Replica
    session: aiohttp.ClientSession

    async def post(self, path: str, **body: Any) -> tuple[int, Any]:
        async with self.session.post(self.replica.url + path, json=body) as response:
            return response.status, await response.json(content_type=None)

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.replica.url + path) as response:
            return response.status, await response.text()

    async def complete(self, **body: Any) -> dict[str, Any]:
        """A whole completion, which must succeed."""
        status, answer = await self.post("/v1/completions", **{"temperature": 0, **body})
        assert status == 200, answer
        return answer

    async def events(self, path: str, **body: Any) -> list[Any]:
        """What a stream sends, ``[DONE]`` as it is."""
        async with self.session.post(self.replica.url + path, json={**body, "stream": True}) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            return [event async for event in sse(response)]

    async def fault(self, kind: str, **details: Any) -> None:
        assert await self.post("/sim/fault", kind=kind, **details) == (200, {"applied": kind})

    async def metric(self, name: str) -> float:
        """The sum over all lines of a metric."""
        _, text = await self.get("/metrics")
        lines = [line for line in text.splitlines() if line.startswith((name + "{", name + " "))]
        assert lines, f"no metric {name}"
        return sum(float(line.rpartition(" ")[2]) for line in lines)


async def sse(response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    async for line in response.content:
        if line.startswith(b"data: "):
            text = line.removeprefix(b"data: ").strip()
            yield "[DONE]" if text == b"[DONE]" else json.loads(text)


@asynccontextmanager
async def replica_client(**changes: Any) -> AsyncIterator[Client]:
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    async with serve_replicas(1, settings(**changes)) as (replica,), aiohttp.ClientSession(timeout=timeout) as session:
        yield Client(replica, session)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what happens without telling anybody."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.002)


@dataclass
class Batch:
    sequence: int
    events: list[Any]

    @property
    def stored(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == "BlockStored"]


class Subscriber:
    """Reads a replica's KV events as a router would."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.connect(f"tcp://127.0.0.1:{replica.kv_events_port}")

    async def joined(self, client: Client) -> None:
        """Wait until what the replica publishes arrives here: a PUB socket drops what comes before."""
        token = 0
        while not await self._socket.poll(50):
            await client.complete(prompt=[token] * 16, max_tokens=1)
            token += 1
        await self.batch()

    async def batch(self) -> Batch:
        async with asyncio.timeout(DEADLINE_S):
            _, sequence, payload = await self._socket.recv_multipart()
        return Batch(int.from_bytes(sequence, "big"), msgspec.msgpack.decode(payload)[1])

    async def raw(self) -> tuple[bytes, bytes, Any]:
        async with asyncio.timeout(DEADLINE_S):
            topic, sequence, payload = await self._socket.recv_multipart()
        return topic, sequence, msgspec.msgpack.decode(payload)

    async def replay(self, start: int) -> list[Batch]:
        """What the replica still has from ``start`` on."""
        socket = self._context.socket(zmq.DEALER)
        socket.connect(f"tcp://127.0.0.1:{self.replica.kv_replay_port}")
        await socket.send_multipart([b"", start.to_bytes(8, "big")])
        batches = []
        async with asyncio.timeout(DEADLINE_S):
            while True:
                empty, topic, sequence, payload = await socket.recv_multipart()
                assert empty == b""
                if sequence == END_OF_REPLAY:
                    assert (topic, payload) == (b"", b"")
                    break
                assert topic == self.replica.settings.topic.encode()
                batches.append(Batch(int.from_bytes(sequence, "big"), msgspec.msgpack.decode(payload)[1]))
        socket.close(linger=0)
        return batches

    def close(self) -> None:
        self._context.destroy(linger=0)
