"""Asks a server for an answer that is wanted whole: that of a prefill leg, or a bootstrap server's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from router.proxy.heads import ResponseHead
from router.proxy.origin import Origin
from router.proxy.proxy import Proxy
from router.proxy.upstream import UpstreamConnection


@dataclass(slots=True, frozen=True)
class WholeAnswer:
    head: ResponseHead
    body: bytes
    """Without framing."""


class _StaleConnectionError(Exception):
    """A kept connection died before it answered."""


async def collect(
    proxy: Proxy, url: str, head_for: Callable[[Origin], bytes], body: bytes, *, timeout_s: float, max_bytes: int
) -> WholeAnswer:
    """The answer of the server at ``url``, asked once more where a kept connection turns out to be dead.

    Raises TimeoutError, and OSError or ValueError when there is none, or one of more than ``max_bytes``. Cancelled, it
    closes the connection, so that the server stops working for it.
    """
    pool = proxy.pools.of(url)
    head = head_for(pool.origin)
    async with asyncio.timeout(timeout_s):
        if (connection := pool.take()) is not None:
            try:
                return await _ask(connection, head, body, max_bytes)
            except _StaleConnectionError:
                proxy.stats.stale_connections += 1
        return await _ask(await pool.connect(), head, body, max_bytes)


async def _ask(connection: UpstreamConnection, head: bytes, body: bytes, max_bytes: int) -> WholeAnswer:
    collector = _Collector(connection, max_bytes)
    connection.send(head, body, collector)
    try:
        return await collector.over
    finally:
        collector.drop_connection()


class _Collector:
    """The sink of one connection."""

    __slots__ = ("_connection", "_head", "_max_bytes", "_payload", "over")

    _head: ResponseHead

    def __init__(self, connection: UpstreamConnection, max_bytes: int) -> None:
        self._connection: UpstreamConnection | None = connection
        self._max_bytes = max_bytes
        self._payload = bytearray()
        self.over: asyncio.Future[WholeAnswer] = asyncio.get_running_loop().create_future()

    def drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def head_received(self, head: ResponseHead) -> None:
        self._head = head
        if self._connection is not None:
            self._connection.payload = self._payload

    def body_received(self, data: bytes, ended: bool) -> None:
        if ended:
            self._connection = None
        if len(self._payload) > self._max_bytes:
            self._fail(ValueError(f"the answer is longer than {self._max_bytes} bytes"))
        elif ended and not self.over.done():
            self.over.set_result(WholeAnswer(self._head, bytes(self._payload)))

    def upstream_failed(self, reason: str, stale: bool) -> None:
        self._connection = None
        self._fail(_StaleConnectionError() if stale else ConnectionError(f"no answer came ({reason})"))

    def _fail(self, error: Exception) -> None:
        self.drop_connection()
        if not self.over.done():
            self.over.set_exception(error)
