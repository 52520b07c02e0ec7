"""Message heads: llhttp parses them, and what it is lenient about is refused here.

A head is everything up to the first empty line. It is parsed once, whole, by a parser of its own; the body behind it is
followed by ``framing``. Two readings of one request are how requests are smuggled, so whatever another server could
read differently is an error. llhttp refuses bare CR and LF, folded lines, control characters, and lengths that
contradict each other; it does not mind other protocols and versions, odd spaces, fragments, and a Host that is missing
or there twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

from router.errors import ApiError
from router.proxy.framing import ChunkedFraming, CloseFraming, Framing, FramingError, LengthFraming
from router.proxy.ports import Headers
from router.proxy.request_ids import MAX_REQUEST_ID_BYTES

_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0")
_BODILESS = (204, 304)
_REQUEST_FIELDS = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"content-type", b"expect", b"x-request-id"}
)
_RESPONSE_FIELDS = frozenset({b"content-length", b"transfer-encoding", b"connection", b"content-type"})
_OPTIONS = frozenset({b"close", b"keep-alive"})
MAX_LENGTH_DIGITS = 18


@dataclass(slots=True)
class HttpRequest:
    """A client's request: its head as it was parsed, and what is learned after that."""

    method: str
    target: bytes
    """Path and query, as they are sent on."""
    path: str
    headers: Headers
    http_1_0: bool
    keep_alive: bool = True
    hop_by_hop: frozenset[bytes] = frozenset()
    """Headers that Connection names: they are not sent on."""
    expects_continue: bool = False
    length: int | None = 0
    """Content-Length, 0 when there is none; None when the body is chunked."""
    is_json: bool = True
    """What the content type says; True when there is none."""
    request_id: bytes = b""
    """Empty when there is none that can be kept."""
    body: bytes = b""
    """Without framing. Emptied when the answer begins: nothing can be repeated then, and a stream may be long."""

    def framing(self) -> Framing:
        return ChunkedFraming() if self.length is None else LengthFraming(self.length)


@dataclass(slots=True)
class ResponseHead:
    status: int
    reason: bytes
    headers: Headers
    keep_alive: bool = True
    hop_by_hop: frozenset[bytes] = frozenset()
    chunked: bool = False
    length: int | None = None
    """Content-Length; None when the body is chunked or ends with the connection."""
    content_type: bytes = b""

    @property
    def is_stream(self) -> bool:
        return self.content_type == b"text/event-stream"

    def framing(self) -> Framing:
        if self.chunked:
            return ChunkedFraming()
        return CloseFraming() if self.length is None else LengthFraming(self.length)


class _Collector:
    """What llhttp calls back."""

    __slots__ = ("complete", "headers")

    def __init__(self) -> None:
        self.headers: Headers = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_request_head(raw: bytes) -> HttpRequest:
    """Parse ``raw``, which ends with the empty line. Raises ApiError with the status to answer."""
    request_line = raw[: raw.index(b"\r\n")].split(b" ")
    if len(request_line) != 3 or request_line[2] not in _VERSIONS:
        raise _bad("the request line is not 'METHOD target HTTP/1.1'")
    method, target, version = request_line
    if b"#" in target:
        raise _bad("the target holds a fragment")
    collector = _Collector()
    parser = HttpRequestParser(collector)
    try:
        parser.feed_data(raw)
    except HttpParserUpgrade:
        pass  # a server may ignore an upgrade, and this one always does
    except HttpParserInvalidMethodError:
        raise ApiError(501, "Unknown HTTP method.") from None
    except HttpParserError as error:
        raise _bad(str(error)) from None
    if not collector.complete or parser.get_method() != method:
        raise _bad("there are bytes before the request line or behind the head")
    target = _origin_form(target)
    path = target.partition(b"?")[0].decode("ascii")
    request = HttpRequest(method.decode("ascii"), target, path, collector.headers, version == b"HTTP/1.0")
    _read_request_fields(request)
    return request


def _read_request_fields(request: HttpRequest) -> None:
    """Take from the headers what the connection needs to know."""
    hosts = framings = 0
    options: list[bytes] = []
    for name, value in request.headers:
        if name not in _REQUEST_FIELDS:
            continue
        if name == b"host":
            hosts += 1
        elif name == b"content-type":
            request.is_json = value.partition(b";")[0].strip().lower().endswith((b"/json", b"+json"))
        elif name == b"content-length":
            framings += 1
            if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
                raise _bad("Content-Length is not a number")
            request.length = int(value)
        elif name == b"transfer-encoding":
            framings += 1
            if value.lower() != b"chunked":
                raise ApiError(501, "The only transfer coding known here is 'chunked'.")
            request.length = None
        elif name == b"connection":
            options += _options(value)
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise ApiError(417, "The only expectation known here is '100-continue'.")
            request.expects_continue = not request.http_1_0
        elif len(value) <= MAX_REQUEST_ID_BYTES:
            request.request_id = value
    if framings > 1:
        raise _bad("Content-Length or Transfer-Encoding is there more than once, or both are")
    if request.length is None and request.http_1_0:
        raise _bad("HTTP/1.0 has no Transfer-Encoding")
    if hosts != 1 and not (request.http_1_0 and hosts == 0):
        raise _bad("there must be one Host header")
    request.keep_alive = b"close" not in options and (not request.http_1_0 or b"keep-alive" in options)
    if options:
        request.hop_by_hop = frozenset(options) - _OPTIONS


def parse_response_head(raw: bytes) -> ResponseHead:
    """Parse the head of an answer to a POST. Raises FramingError."""
    collector = _Collector()
    parser = HttpResponseParser(collector)
    try:
        parser.feed_data(raw)
    except (HttpParserUpgrade, HttpParserError) as error:
        raise FramingError(f"malformed head: {error}") from None
    if not collector.complete or not raw.startswith(_VERSIONS):
        raise FramingError("malformed head: it is not HTTP/1.1")
    head = ResponseHead(parser.get_status_code(), raw[13 : raw.index(b"\r\n")], collector.headers)
    _read_response_fields(head, raw.startswith(b"HTTP/1.1"))
    return head


def _read_response_fields(head: ResponseHead, keep_alive: bool) -> None:
    options: list[bytes] = []
    for name, value in head.headers:
        if name not in _RESPONSE_FIELDS:
            continue
        if name == b"content-type":
            head.content_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-length":
            head.length = int(value)
        elif name == b"connection":
            options += _options(value)
        elif value.lower() != b"chunked":
            raise FramingError("unknown transfer coding")
        else:
            head.chunked = True
    if head.status in _BODILESS:
        head.length, head.chunked = 0, False
    head.keep_alive = keep_alive and b"close" not in options
    if options:
        head.hop_by_hop = frozenset(options) - _OPTIONS


def _options(value: bytes) -> list[bytes]:
    """What a Connection header lists."""
    return [option.strip() for option in value.lower().split(b",")]


def _origin_form(target: bytes) -> bytes:
    """Strip scheme and authority of a target in absolute form (RFC 9112 section 3.2.2)."""
    if target.startswith(b"/"):
        return target
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return target
    path_at = rest.find(b"/")
    return rest[path_at:] if path_at >= 0 else b"/"


def _bad(fault: str) -> ApiError:
    return ApiError(400, f"Malformed HTTP request: {fault}.")
