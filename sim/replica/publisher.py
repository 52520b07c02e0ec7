"""Publishes batches of KV events over ZMQ as vLLM does: PUB for the present, ROUTER to replay the past."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
import zmq
import zmq.asyncio

_END_OF_REPLAY = (-1).to_bytes(8, "big", signed=True)
_HIGH_WATER_MARK = 100_000
_BIND_ATTEMPTS = 50


class Publisher:
    """One start of a replica: sequence numbers begin at 0, the replay buffer is empty.

    ``port`` and ``replay_port`` may be 0 for any; after ``start`` they are the real ones.
    """

    def __init__(self, host: str, port: int, replay_port: int, topic: str, buffer_steps: int) -> None:
        self.port = port
        self.replay_port = replay_port
        self.drop_batches = 0
        """So many batches will not be sent although they take a sequence number."""
        self._host = "*" if host == "0.0.0.0" else host
        self._topic = topic.encode()
        self._buffer: deque[tuple[bytes, bytes]] = deque(maxlen=buffer_steps)
        self._sequence = 0
        self._encoder = msgspec.msgpack.Encoder()
        self._context = zmq.Context()
        self._pub = self._context.socket(zmq.PUB)
        self._pub.set_hwm(_HIGH_WATER_MARK)
        self._replay: zmq.asyncio.Socket = zmq.asyncio.Context.shadow(self._context).socket(zmq.ROUTER)
        self._replaying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind both sockets. Raises OSError when a port is taken."""
        self.port = await _bind(self._pub, self._host, self.port)
        self.replay_port = await _bind(self._replay, self._host, self.replay_port)
        self._replaying = asyncio.create_task(self._serve_replay())

    async def stop(self) -> None:
        if self._replaying is not None:
            self._replaying.cancel()
            await asyncio.gather(self._replaying, return_exceptions=True)
        self._pub.close(linger=0)
        self._replay.close(linger=0)
        self._context.term()

    def publish(self, events: Sequence[msgspec.Struct], *, replayable: bool = True) -> None:
        """Send one batch. What is dropped on purpose can be replayed unless ``replayable`` is False."""
        sequence = self._sequence.to_bytes(8, "big")
        self._sequence += 1
        dropped = self.drop_batches > 0
        self.drop_batches -= dropped
        payload = self._encoder.encode((time.time(), events, 0))
        if not dropped:
            self._pub.send_multipart((self._topic, sequence, payload))
        if replayable or not dropped:
            self._buffer.append((sequence, payload))

    async def _serve_replay(self) -> None:
        while True:
            frames = await self._replay.recv_multipart()
            if len(frames) != 3:
                continue
            client, _, wanted = frames
            for sequence, payload in list(self._buffer):
                if int.from_bytes(sequence, "big") >= int.from_bytes(wanted, "big"):
                    await self._replay.send_multipart((client, b"", self._topic, sequence, payload))
            await self._replay.send_multipart((client, b"", b"", _END_OF_REPLAY, b""))


async def _bind(socket: zmq.Socket[Any], host: str, port: int) -> int:
    """The port that the socket listens on. A port just closed takes a moment to become free."""
    for attempt in range(_BIND_ATTEMPTS):
        try:
            socket.bind(f"tcp://{host}:{port or '*'}")
            break
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE or attempt == _BIND_ATTEMPTS - 1:
                raise OSError(error.errno, f"cannot publish KV events on {host}:{port}: {error.strerror}") from error
            await asyncio.sleep(0.02)
    endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
    return int(endpoint.rpartition(":")[2])
