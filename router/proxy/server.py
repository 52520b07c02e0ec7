"""The client's side: one protocol per connection, one request at a time, in order."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import cast

from router.errors import ApiError
from router.proxy.deadlines import NEVER
from router.proxy.exchange import Exchange
from router.proxy.headers import add_request_id, local_head
from router.proxy.heads import HttpRequest
from router.proxy.ports import Headers, LocalResponse, LocalRoute
from router.proxy.proxy import Proxy
from router.proxy.request_reader import Part, RequestReader

_log = logging.getLogger(__name__)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _State(Enum):
    READING = "a request is awaited or comes in"
    ANSWERING = "a request was read, its answer is under way"
    CLOSING = "everything was said; what the client still sends is thrown away"


class ClientConnection(asyncio.Protocol):
    """Hands requests on as they come in; the next one waits until the answer has ended.

    A client that closes its sending side is taken to be gone, as vLLM and most servers take it.
    """

    __slots__ = (
        "_awaited",
        "_drains",
        "_exchange",
        "_local_task",
        "_on_lost",
        "_proxy",
        "_read_paused",
        "_reader",
        "_request",
        "_state",
        "_transport",
        "deadline_s",
        "is_write_paused",
        "keep_alive",
        "loop",
        "write",
    )

    _transport: asyncio.Transport
    _request: HttpRequest
    write: Callable[[bytes], None]

    def __init__(self, proxy: Proxy, on_lost: Callable[[ClientConnection], None]) -> None:
        self._proxy = proxy
        self._on_lost = on_lost
        self.loop = asyncio.get_running_loop()
        self._state = _State.READING
        self._reader = RequestReader(proxy.limits.max_head_bytes, proxy.limits.max_body_bytes)
        self._awaited: Part | None = None
        """What the deadline is for, while a request is awaited."""
        self._exchange: Exchange | None = None
        self._local_task: asyncio.Task[None] | None = None
        self._drains = False
        self._read_paused = False
        self.is_write_paused = False
        self.keep_alive = True
        """Whether the connection outlives the answer under way."""
        self.deadline_s = NEVER

    # The transport calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._proxy.limits.write_buffer_bytes)
        self.write = partial(self._proxy.outbox.write, self._transport)
        self._proxy.stats.connections_total += 1
        self._proxy.stats.connections_open += 1
        self._proxy.deadlines.add(self)
        self._await_more()

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy.stats.connections_open -= 1
        self._proxy.deadlines.discard(self)
        self._state = _State.CLOSING
        self._reader.clear()
        if self._exchange is not None:
            self._exchange.client_gone()
        if self._local_task is not None:
            self._local_task.cancel()
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        if self._state is _State.CLOSING:
            return
        self._reader.feed(data)
        if self._state is _State.READING:
            self._read_on()
        elif len(self._reader) > self._proxy.limits.max_pipelined_bytes:
            self._read_paused = True
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self.is_write_paused = True
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        self.is_write_paused = False
        if self._exchange is not None:
            self._exchange.resume()
        elif self._state is _State.READING:
            self._read_on()
        elif self._state is _State.CLOSING:
            self._set_deadline(self._proxy.limits.linger_s)

    def deadline_passed(self) -> None:
        if self.is_write_paused:
            self._proxy.stats.clients_stalled += 1
            self.reset()
        elif self._state is _State.READING and self._reader.part is not Part.NOTHING:
            self._proxy.stats.clients_timed_out += 1
            self.refuse(ApiError(408, "The request did not arrive in time."))
        else:
            self._transport.abort()

    # Who answers calls these.

    def respond(self, response: LocalResponse, request_id: bytes = b"") -> None:
        """Answer without a replica."""
        headers = list(response.headers)
        if request_id:
            headers.append((b"x-request-id", request_id))
        self._proxy.stats.answers[response.status] += 1
        head = local_head(response.status, headers, len(response.body), self.connection_line())
        self.write(head + response.body)
        self.answer_ended()

    def refuse(self, error: ApiError, request_id: bytes = b"", headers: Headers | None = None) -> None:
        """Answer with an error. One about a request that was not read to its end closes the connection."""
        if self._state is not _State.ANSWERING:
            self.keep_alive = False
        if error.status == 503 and error.retry_after_s is None:
            error.retry_after_s = self._proxy.limits.retry_after_s
        lines = [(b"content-type", b"application/json"), *(headers or [])]
        if error.retry_after_s is not None:
            lines.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s))))
        self.respond(LocalResponse(error.status, lines, error.body()), request_id)

    def answer_ended(self, cut_off: bool = False) -> None:
        """The answer was written to its end, or ``cut_off``: then a reset is the only honest ending."""
        self._exchange = None
        self._local_task = None
        if self._transport.is_closing():
            return
        if cut_off:
            self.reset()
        elif self.keep_alive:
            self._state = _State.READING
            if self._read_paused:
                self._read_paused = False
                self._transport.resume_reading()
            if len(self._reader):
                self.loop.call_soon(self._read_on)
            else:
                self._await_more()
        else:
            self._close()

    def connection_line(self) -> bytes:
        """The Connection header of the answer under way, where it needs one."""
        if not self.keep_alive:
            return b"connection: close\r\n"
        return b"connection: keep-alive\r\n" if self._request.http_1_0 else b""

    def reset(self) -> None:
        """Close so that the client cannot take what it has for a whole answer."""
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._proxy.outbox.flush()
        self._transport.abort()

    def drain(self) -> None:
        """Close as soon as no request is in hand."""
        self._drains = True
        self.keep_alive = False
        if self._state is _State.READING and self._reader.part is Part.NOTHING:
            self._proxy.outbox.flush()
            self._transport.close()

    # Requests.

    def _read_on(self) -> None:
        """Take the next request in hand, if it is there."""
        if self._state is not _State.READING:
            return
        if self.is_write_paused:
            self._set_deadline(self._proxy.limits.client_stall_s)
            return
        try:
            request = self._reader.next_request()
            if request is None:
                self._await_more()
            else:
                self._handle(request)
        except ApiError as error:
            self.refuse(error)

    def _await_more(self) -> None:
        """Set the deadline for what is missing: one for a whole head, a new one for each piece of a body."""
        part, limits = self._reader.part, self._proxy.limits
        if part is Part.BODY:
            self._set_deadline(limits.body_timeout_s)
        elif part is not self._awaited:
            self._set_deadline(limits.header_timeout_s if part is Part.HEAD else limits.keep_alive_s)
        self._awaited = part
        request = self._reader.unfinished
        if request is not None and request.expects_continue:
            request.expects_continue = False
            if not self._proxy.methods_of(request.path):
                raise _not_found(request)
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _handle(self, request: HttpRequest) -> None:
        proxy = self._proxy
        proxy.stats.requests_total += 1
        self._request = request
        self._state = _State.ANSWERING
        self._awaited = None
        self.deadline_s = NEVER
        self.keep_alive = request.keep_alive and not self._drains
        if not request.request_id:
            add_request_id(request, proxy.fresh_request_id())
        route = proxy.local_route(request)
        if route is not None:
            self._local_task = self.loop.create_task(self._answer_locally(route))
        elif request.method == "POST" and proxy.goes_to_replicas(request.path):
            self._exchange = Exchange(proxy, self, request)
        elif methods := proxy.methods_of(request.path):
            error = ApiError(405, f"{request.path} cannot be asked with {request.method}.")
            self.refuse(error, request.request_id, [(b"allow", ", ".join(methods).encode())])
        else:
            self.refuse(_not_found(request), request.request_id)

    async def _answer_locally(self, route: LocalRoute) -> None:
        request = self._request
        try:
            answer = route()
            self.respond(answer if isinstance(answer, LocalResponse) else await answer, request.request_id)
        except ApiError as error:
            self.refuse(error, request.request_id)
        except Exception:
            # A fault in a page such as /metrics must not leave its client waiting for ever.
            self._proxy.stats.internal_errors += 1
            _log.exception("%s %s failed", request.method, request.path)
            self.refuse(ApiError(500, "Internal error of the router.", type="server_error"), request.request_id)

    def _set_deadline(self, after_s: float) -> None:
        self.deadline_s = self.loop.time() + after_s

    def _close(self) -> None:
        """Say that nothing follows, but keep reading for a while.

        Closing a socket that holds unread bytes resets the connection, and the client may lose the answer.
        """
        self._state = _State.CLOSING
        self._reader.clear()
        self._proxy.outbox.flush()
        self._transport.set_write_buffer_limits(high=0)
        limits = self._proxy.limits
        self._set_deadline(limits.client_stall_s if self.is_write_paused else limits.linger_s)
        self._transport.resume_reading()
        self._transport.write_eof()


def _not_found(request: HttpRequest) -> ApiError:
    return ApiError(404, f"There is nothing at {request.path}.", code="not_found")
