"""What Envoy tells an external processor of one HTTP request, and in which way it waits for the answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

Headers = list[tuple[bytes, bytes]]
"""In the order of the wire, names in lower case."""


class ProtocolError(Exception):
    """A message that Envoy does not send, or not at this point. The text says which, for the gateway's log."""


class BodyMode(IntEnum):
    """Envoy's ``ProcessingMode.BodySendMode``."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3
    FULL_DUPLEX_STREAMED = 4


@dataclass(slots=True, frozen=True)
class Modes:
    """How bodies come, and whether Envoy lets a request's head go before it has an answer to it."""

    request_body: BodyMode = BodyMode.FULL_DUPLEX_STREAMED
    response_body: BodyMode = BodyMode.NONE
    body_comes_before_answer: bool = False
    """STREAMED: Envoy sends the body although its head has not been answered; refused, see ``stream.py``."""


@dataclass(slots=True, frozen=True)
class RequestHeaders:
    headers: Headers
    end_of_stream: bool = False
    modes: Modes | None = None
    """None: the gateway does not say (Envoy before 1.33)."""
    subset: frozenset[str] | None = None
    """IP addresses of the endpoints that the gateway allows; None: all."""


@dataclass(slots=True, frozen=True)
class RequestBody:
    data: bytes
    end_of_stream: bool = False


@dataclass(slots=True, frozen=True)
class RequestTrailers:
    pass


@dataclass(slots=True, frozen=True)
class ResponseHeaders:
    status: int
    end_of_stream: bool = False
    served: str = ""
    """The endpoint that the gateway says it used; empty: it does not say."""


@dataclass(slots=True, frozen=True)
class ResponseBody:
    data: bytes
    end_of_stream: bool = False


@dataclass(slots=True, frozen=True)
class ResponseTrailers:
    pass


Message = RequestHeaders | RequestBody | RequestTrailers | ResponseHeaders | ResponseBody | ResponseTrailers
