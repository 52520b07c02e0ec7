"""One HTTP request as Envoy's external processor sees it: messages go in, answers and what is to be done come out.

No gRPC and no waiting here. The rules, which are Envoy's:

- Every part of a request is answered in its order: headers, body, trailers. With BUFFERED bodies the head is let pass
  first and the body's answer says where the request goes; else the head's answer says it.
- FULL_DUPLEX_STREAMED: the head may wait for its answer until the body is there; the body is then sent back in pieces.
- STREAMED: the request is routed by its head alone, and each piece of the body gets an answer of its own. Where Envoy
  is told to send the body before it has an answer to the head, it sends some pieces to the replica twice, whatever the
  answers are (1.40: 1 to 13 of 1,000 requests), so such requests are refused.
- NONE: the request is routed by its head alone.
- Who has said where a request goes may close the stream: Envoy then does the rest alone. So Weft sees answers only
  where ``follows`` is set. Pieces that are STREAMED still come, and each of them is answered.
- Envoy may answer by itself (a time limit, say) before anything is decided; then its own answer comes by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain

from router.errors import ApiError
from router.extproc import wire
from router.extproc.messages import (
    BodyMode,
    Headers,
    Message,
    Modes,
    ProtocolError,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from router.extproc.names import TEST_SERVED
from router.extproc.wire import Destination

_TWICE = (
    "Envoy sends bodies twice with request_body_mode STREAMED and send_body_without_waiting_for_header_response; "
    "BUFFERED and FULL_DUPLEX_STREAMED are right."
)


@dataclass(slots=True, frozen=True)
class Route:
    """To do: say where this request goes, with ``Stream.send_to`` or ``Stream.refuse``."""

    headers: Headers
    body: bytes | None
    """None: the request has none, or it is not known."""
    subset: frozenset[str] | None
    is_bodiless: bool
    """The request has no body."""


@dataclass(slots=True, frozen=True)
class Answering:
    """The replica's answer has begun."""

    status: int
    served: str
    """The endpoint that the gateway says it used; empty: it does not say."""


class Sign(Enum):
    FIRST_BYTE = "the first piece of the answer's body came by"
    ENDED = "the answer is complete"
    GIVEN_UP = "Envoy answered by itself before anything was decided"


Event = bytes | Route | Answering | Sign
"""Bytes are to be sent."""


class State(Enum):
    HEADERS = "nothing has come"
    BODY = "the body comes in"
    ROUTING = "where the request goes is being decided"
    FOLLOWING = "decided; what else comes by is let pass"
    OVER = "nothing is expected, the stream may be closed"


@dataclass(slots=True)
class Stream:
    """``receive`` takes what came; ``send_to`` or ``refuse`` answer a `Route`. Each returns what to do, in order."""

    max_body_bytes: int
    modes: Modes = field(default_factory=Modes)
    """What is taken for granted where the gateway does not say."""
    follows: bool = False
    """Whether the answer is to be seen. May be set until the request is decided."""
    tells_served: bool = False
    """Whether the answer's head is to say which endpoint the gateway used."""
    answer_headers: Headers = field(default_factory=list)
    """Added to the answer's head, where it comes by."""
    state: State = State.HEADERS
    _head: RequestHeaders | None = None
    _pieces: list[bytes] = field(default_factory=list)
    _size: int = 0
    _body: bytes = b""
    """The pieces, joined once they are all there."""
    _ends_in_trailers: bool = False

    def receive(self, message: Message) -> list[Event]:
        """Raises ProtocolError for a message that cannot come now, ApiError 413 for too large a body."""
        if isinstance(message, RequestHeaders):
            return self._request_headers(message)
        if isinstance(message, RequestBody):
            return self._request_body(message)
        if isinstance(message, RequestTrailers):
            return self._request_trailers()
        if isinstance(message, ResponseHeaders):
            return self._response_headers(message)
        if self.state is not State.FOLLOWING:
            raise ProtocolError(f"{_name(message)}: {self.state.value}")
        if isinstance(message, ResponseBody):
            return self._response_body(message)
        return self._ending([wire.let_pass("response_trailers")])

    def send_to(
        self, destination: Destination, added: Headers, removed: list[str], explanation: bytes
    ) -> Iterator[bytes]:
        """The answers that let the request go there; a large body is cut up as they are taken."""
        decided = wire.send_to(self._deciding_kind, destination, added, removed, explanation)
        self.state = State.FOLLOWING if self.follows or self._is_streamed else State.OVER
        return chain((decided,), self._rest_of_request())

    def refuse(self, error: ApiError, headers: Headers) -> bytes:
        """The answer that Envoy gives the client at once."""
        self.state = State.OVER
        return wire.answer_at_once(error, headers)

    def _request_headers(self, head: RequestHeaders) -> list[Event]:
        if self.state is not State.HEADERS:
            raise ProtocolError("request_headers: they came before")
        self._head = head
        if head.modes is not None:
            self.modes = head.modes
        mode = self.modes.request_body
        if head.end_of_stream or mode is BodyMode.NONE:
            return [self._route(None)]
        if mode is BodyMode.STREAMED:
            if self.modes.body_comes_before_answer:
                raise ApiError(500, _TWICE, type="server_error", code="body_mode")
            return [self._route(None)]
        self.state = State.BODY
        return [wire.let_pass("request_headers")] if self._is_buffered else []

    def _request_body(self, body: RequestBody) -> list[Event]:
        if self.state is State.FOLLOWING and self.modes.request_body is BodyMode.STREAMED:
            return self._streamed("request_body", body.end_of_stream)
        if self.state is not State.BODY:
            raise ProtocolError(f"request_body: {self.state.value}")
        self._pieces.append(body.data)
        self._size += len(body.data)
        if self._size > self.max_body_bytes:
            raise ApiError(413, f"The body is larger than {self.max_body_bytes} bytes.")
        if body.end_of_stream or self.modes.request_body is BodyMode.BUFFERED:
            return [self._route(self._joined())]
        return [self._route(None)] if self._is_buffered else []

    def _request_trailers(self) -> list[Event]:
        if self.state is State.FOLLOWING:
            return self._streamed("request_trailers", ends=True)
        if self.state is not State.BODY or self._is_buffered:
            raise ProtocolError(f"request_trailers: {self.state.value}")
        self._ends_in_trailers = True
        return [self._route(self._joined())]

    def _response_headers(self, head: ResponseHeaders) -> list[Event]:
        if self.state in (State.HEADERS, State.OVER):
            raise ProtocolError(f"response_headers: {self.state.value}")
        if self.state is not State.FOLLOWING:
            self.state = State.OVER
            return [wire.let_pass("response_headers"), Sign.GIVEN_UP]
        added = self.answer_headers
        if self.tells_served and head.served:
            added = [*added, (TEST_SERVED, head.served.encode())]
        events: list[Event] = [wire.response_headers(added), Answering(head.status, head.served)]
        return self._ending(events) if head.end_of_stream else events

    def _response_body(self, body: ResponseBody) -> list[Event]:
        events: list[Event] = [Sign.FIRST_BYTE] if body.data else []
        if self.modes.response_body is BodyMode.FULL_DUPLEX_STREAMED:
            events = [*wire.body_chunks("response_body", body.data, body.end_of_stream), *events]
        else:
            events = [wire.let_pass("response_body"), *events]
        return self._ending(events) if body.end_of_stream else events

    def _streamed(self, kind: str, ends: bool) -> list[Event]:
        """A piece of a request that is on its way to its replica."""
        if ends and not self.follows:
            self.state = State.OVER
        return [wire.let_pass(kind)]

    def _ending(self, events: list[Event]) -> list[Event]:
        """The answer is complete."""
        self.state = State.OVER
        return [*events, Sign.ENDED]

    def _route(self, body: bytes | None) -> Route:
        head = self._head
        if head is None:
            raise ProtocolError("a request without headers")
        self.state = State.ROUTING
        return Route(head.headers, body, head.subset, head.end_of_stream)

    def _rest_of_request(self) -> Iterator[bytes]:
        """Answers to what has come behind the head."""
        mode = self.modes.request_body
        if mode is BodyMode.FULL_DUPLEX_STREAMED and not self._is_bodiless:
            yield from wire.body_chunks("request_body", self._body, not self._ends_in_trailers)
        self._body = b""
        if self._ends_in_trailers:
            yield wire.let_pass("request_trailers")

    def _joined(self) -> bytes:
        pieces = self._pieces
        self._body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return self._body

    @property
    def _is_buffered(self) -> bool:
        return self.modes.request_body in (BodyMode.BUFFERED, BodyMode.BUFFERED_PARTIAL)

    @property
    def _is_streamed(self) -> bool:
        return self.modes.request_body is BodyMode.STREAMED and not self._is_bodiless

    @property
    def _is_bodiless(self) -> bool:
        return self._head is None or self._head.end_of_stream

    @property
    def _deciding_kind(self) -> str:
        return "request_body" if self._is_buffered and not self._is_bodiless else "request_headers"


def _name(message: Message) -> str:
    return {ResponseBody: "response_body", ResponseTrailers: "response_trailers"}.get(type(message), "message")
