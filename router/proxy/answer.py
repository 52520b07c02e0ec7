"""A replica's answer on its way to the client."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from router.core.types import Outcome, Usage
from router.errors import ApiError
from router.proxy import sse
from router.proxy.framing import ChunkedFraming, Framing
from router.proxy.headers import client_head
from router.proxy.heads import HttpRequest, ResponseHead
from router.proxy.usage import find_usage

if TYPE_CHECKING:
    from router.proxy.server import ClientConnection

TAIL_PIECES = 4
"""How many of the last pieces are searched for usage and errors: vLLM writes the event with usage, ``[DONE]`` and the
last chunk each on its own."""
TAIL_BYTES = 64 * 1024


class Answer:
    """Writes the head, hands the body's pieces through, and remembers the last few of them."""

    __slots__ = ("_client", "_head", "_request", "_tail", "_write", "is_dechunked")

    def __init__(self, client: ClientConnection, request: HttpRequest, head: ResponseHead) -> None:
        self._client = client
        self._write = client.write
        self._request = request
        self._head = head
        self._tail: deque[bytes] = deque(maxlen=TAIL_PIECES)
        self.is_dechunked = head.chunked and request.http_1_0
        """HTTP/1.0 knows no chunks: the client gets the payload alone, and the end by closing."""

    def begin(self, own_lines: bytes, body: bytes) -> None:
        """Send the head, with ``own_lines`` of the router's, and what there is of the body."""
        lines = own_lines + self._framing_line() + self._client.connection_line()
        self._write(client_head(self._head, lines) + body)
        self._tail.append(body)

    def pass_on(self, piece: bytes) -> None:
        self._tail.append(piece)
        self._write(piece)

    def end(self) -> tuple[Outcome, Usage | None]:
        """How an answer that went out whole counts, and what the replica said that it cost."""
        tail = self._last_bytes()
        failed = self._head.status >= 500 or (self._head.is_stream and sse.ends_in_error(tail))
        usage = find_usage(tail) if self._head.status == 200 else None
        return Outcome.FAILED if failed else Outcome.OK, usage

    def break_off(self, framing: Framing | None, error: ApiError) -> bool:
        """Tell the client, in the middle of its answer, what happened. False where its framing does not allow it.

        ``framing`` says where in the body the bytes handed through so far end.
        """
        if not self._head.is_stream or self._head.length is not None:
            return False
        at_event_end = self._last_bytes().endswith((b"\n\n", b"\n\n\r\n"))
        events = (b"" if at_event_end else b"\n\n") + sse.error_ending(self._request.path, error)
        if self._head.chunked and not self.is_dechunked:
            padding = framing.padding() if isinstance(framing, ChunkedFraming) else None
            if padding is None:
                return False
            events = padding + sse.chunk(events) + sse.LAST_CHUNK
        self._write(events)
        return True

    def _framing_line(self) -> bytes:
        """The line that says where the body ends. Without one it ends with the connection."""
        head = self._head
        if head.chunked and not self.is_dechunked:
            return b"transfer-encoding: chunked\r\n"
        if head.length is not None:
            return b"" if head.status == 204 else b"content-length: %d\r\n" % head.length
        self._client.keep_alive = False
        return b""

    def _last_bytes(self) -> bytes:
        return b"".join(self._tail)[-TAIL_BYTES:]
