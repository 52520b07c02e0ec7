"""Cuts requests out of the bytes that a client sends. Knows no socket and no time."""

from __future__ import annotations

from enum import Enum

from router.errors import ApiError
from router.proxy.framing import Framing, FramingError
from router.proxy.heads import HttpRequest, parse_request_head


class Part(Enum):
    """What the bytes so far are the beginning of."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


class RequestReader:
    """Fed with bytes as they come, asked for requests one at a time; what was sent ahead waits in its buffer."""

    __slots__ = ("_body", "_buffer", "_framing", "_max_body_bytes", "_max_head_bytes", "_request")

    _framing: Framing

    def __init__(self, max_head_bytes: int, max_body_bytes: int) -> None:
        self._max_head_bytes = max_head_bytes
        self._max_body_bytes = max_body_bytes
        self._buffer = b""
        self._request: HttpRequest | None = None
        self._body = bytearray()

    def __len__(self) -> int:
        """Bytes that no request was made of yet, a body in the making aside."""
        return len(self._buffer)

    @property
    def part(self) -> Part:
        if self._request is not None:
            return Part.BODY
        return Part.HEAD if self._buffer else Part.NOTHING

    @property
    def unfinished(self) -> HttpRequest | None:
        """The request whose body is still coming."""
        return self._request

    def feed(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data

    def clear(self) -> None:
        """Forget everything: no request will be asked for any more."""
        self._buffer = b""
        self._body = bytearray()

    def next_request(self) -> HttpRequest | None:
        """The next whole request, or None when bytes are missing.

        Raises ApiError when what comes is not a request or too long; there is no going on after that.
        """
        request = self._request
        if request is None:
            request = self._take_head()
            if request is None:
                return None
            length = request.length
            if length is not None and length <= len(self._buffer):
                request.body, self._buffer = self._buffer[:length], self._buffer[length:]
                return request
            if length is not None and length > self._max_body_bytes:
                raise self._too_large()
            self._request = request
            self._framing = request.framing()
        return request if self._take_body(request) else None

    def _take_head(self) -> HttpRequest | None:
        buffer = self._buffer.removeprefix(b"\r\n")
        end = buffer.find(b"\r\n\r\n") + 4
        if (end if end > 3 else len(buffer)) > self._max_head_bytes:
            raise ApiError(431, f"The request's head is longer than {self._max_head_bytes} bytes.")
        if end < 4:
            self._buffer = buffer
            if b"\0" in buffer or buffer.count(b"\n") != buffer.count(b"\r\n"):
                raise ApiError(400, "Malformed HTTP request: a line does not end with CRLF.")
            return None
        self._buffer = buffer[end:]
        return parse_request_head(buffer[:end])

    def _take_body(self, request: HttpRequest) -> bool:
        """Whether the body is complete."""
        data, self._buffer = self._buffer, b""
        try:
            end = self._framing.feed(data, self._body)
        except FramingError as error:
            raise ApiError(400, f"Malformed HTTP request: {error}.") from None
        if len(self._body) > self._max_body_bytes:
            raise self._too_large()
        if end < 0:
            return False
        self._buffer = data[end:]
        request.body, self._body = bytes(self._body), bytearray()
        self._request = None
        return True

    def _too_large(self) -> ApiError:
        return ApiError(413, f"The request's body is longer than {self._max_body_bytes} bytes.")
