"""One connection to a replica: sends a request, follows the answer's framing, hands its bytes on untouched."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

from router.proxy.framing import Framing, FramingError
from router.proxy.heads import ResponseHead, parse_response_head

if TYPE_CHECKING:
    from router.proxy.pool import Pool

MAX_HEAD_BYTES = 64 * 1024


class Sink(Protocol):
    """Who sent the request on a connection, and wants the answer."""

    def head_received(self, head: ResponseHead) -> None: ...

    def body_received(self, data: bytes, ended: bool) -> None:
        """``data`` as it came, framing included. Called with ``ended`` once, maybe without data."""

    def upstream_failed(self, reason: str, stale: bool) -> None:
        """The connection is gone. ``stale``: it had been kept idle, and died before it answered at all."""


class UpstreamConnection(asyncio.Protocol):
    """Belongs to its pool while idle, and to one sink from ``send`` to the end of the answer."""

    __slots__ = (
        "_answered",
        "_buffer",
        "_framing",
        "_head",
        "_pool",
        "_sink",
        "_transport",
        "_used",
        "payload",
    )

    _transport: asyncio.Transport

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sink: Sink | None = None
        self._head: ResponseHead | None = None
        self._framing: Framing | None = None
        self._buffer = b""
        self._used = False
        self._answered = False
        self.payload: bytearray | None = None
        """Set by the sink while it wants the decoded body as well; it is added here before each piece."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._pool.made()

    @property
    def framing(self) -> Framing | None:
        """Where in the answer's body the bytes handed on so far end; None when that is not known."""
        return self._framing

    def send(self, head: bytes, body: bytes, sink: Sink) -> None:
        self._sink = sink
        self._answered = False
        self._pool.outbox.write(self._transport, head + body)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, so that the replica stops working for it. The sink hears no more."""
        self._sink = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        framing, sink = self._framing, self._sink
        if framing is None or sink is None:
            self._head_data_received(data)
            return
        try:
            end = framing.feed(data, self.payload)
        except FramingError as error:
            self._framing = None
            self._fail(str(error))
            return
        if end < 0:
            sink.body_received(data, False)
        else:
            self._body_ended(data, end)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.lost(self)
        if self._sink is None:
            return
        if exc is None and self._framing is not None and self._framing.close():
            sink, self._sink = self._sink, None
            sink.body_received(b"", True)
        else:
            self._fail(f"connection lost: {exc}" if exc else "connection closed early")

    def _head_data_received(self, data: bytes) -> None:
        if self._sink is None:
            self._transport.abort()
            return
        self._answered = True
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            raw, self._buffer = self._buffer[: end + 4], self._buffer[end + 4 :]
            try:
                head = parse_response_head(raw)
            except FramingError as error:
                self._fail(str(error))
                return
            if head.status >= 200:
                self._head_received(head, self._sink)
                return
        if len(self._buffer) > MAX_HEAD_BYTES:
            self._fail("the head is too long")

    def _head_received(self, head: ResponseHead, sink: Sink) -> None:
        rest, self._buffer = self._buffer, b""
        self._head = head
        self._framing = head.framing()
        sink.head_received(head)
        if self._sink is not None and (rest or head.length == 0):
            self.data_received(rest)

    def _body_ended(self, data: bytes, end: int) -> None:
        sink, self._sink = self._sink, None
        keep = self._head is not None and self._head.keep_alive and end == len(data)
        self._head = self._framing = self.payload = None
        self._used = True
        if keep and self._transport.get_write_buffer_size() == 0:
            self._pool.give_back(self)
        else:
            self._transport.abort()
        if sink is not None:
            sink.body_received(data[:end] if end < len(data) else data, True)

    def _fail(self, reason: str) -> None:
        sink = self._sink
        self.abort()
        if sink is not None:
            sink.upstream_failed(reason, stale=self._used and not self._answered)
