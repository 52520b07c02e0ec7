"""How a replica comes for the blocks that another has kept: one line of JSON each way, over a connection of its own.

Stands for NIXL's handshake, reads and notifications. The answer comes when the bytes would have gone through; a
connection that ends before is a transfer that failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum

import msgspec

from sim.engine import Engine
from sim.replica.binding import bound, port_of
from sim.replica.kv_transfer.link import Link
from sim.replica.kv_transfer.params import Source

CONNECT_LIMIT_S = 5.0
ANSWER_LIMIT_S = 600.0


class Wish(StrEnum):
    FETCH = "fetch"
    """Send so many tokens, then free the blocks."""
    RELEASE = "release"
    """Free them as they are."""
    KEEP_ON = "keep_on"
    """Renew their lease."""


class Ask(msgspec.Struct):
    wish: Wish
    engine_id: str
    request_id: str
    tokens: int


class PeerGoneError(Exception):
    """The other replica cannot be reached, is another one than it was, or went away meanwhile."""


async def ask(wish: Wish, source: Source, tokens: int = 0) -> None:
    """Returns when it has been fulfilled. Raises PeerGoneError."""
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(source.host, source.port), CONNECT_LIMIT_S)
    except OSError as error:
        raise PeerGoneError(str(error)) from error
    try:
        writer.write(msgspec.json.encode(Ask(wish, source.engine_id, source.request_id, tokens)) + b"\n")
        answer = await asyncio.wait_for(reader.readline(), ANSWER_LIMIT_S)
    except OSError as error:
        raise PeerGoneError(str(error)) from error
    finally:
        writer.close()
    if answer != b"true\n":
        raise PeerGoneError(f"nobody of that name at {source.host}:{source.port}")


class SideChannel:
    """The side that has the blocks."""

    def __init__(
        self, engine_id: str, engine: Engine, link: Link, on_release: Callable[[], None], on_late: Callable[[], None]
    ) -> None:
        """``on_release``: blocks have become free. ``on_late``: somebody came for blocks whose lease had ended."""
        self._engine_id = engine_id
        self._engine = engine
        self._link = link
        self._on_release = on_release
        self._on_late = on_late
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, host: str, port: int) -> int:
        """The port that it listens on. Raises OSError when it is taken."""
        self._server = await bound(lambda: asyncio.start_server(self._serve, host, port))
        return port_of(self._server)

    async def stop(self) -> None:
        """Whoever is being served sees the connection end."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            asked = msgspec.json.decode(await reader.readline(), type=Ask)
            writer.write(b"true\n" if await self._fulfilled(asked) else b"false\n")
            await writer.drain()
        except (msgspec.DecodeError, OSError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _fulfilled(self, asked: Ask) -> bool:
        if asked.engine_id != self._engine_id:
            return False
        if asked.wish is Wish.KEEP_ON:
            self._engine.renew_lease(asked.request_id, time.monotonic())
            return True
        if asked.wish is Wish.FETCH:
            await asyncio.sleep(self._link.reserve(asked.tokens, asyncio.get_running_loop().time()))
        if self._engine.release(asked.request_id):
            self._on_release()
        else:
            self._on_late()
        return True
