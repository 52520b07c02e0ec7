"""What is a request, what is refused, and what a replica's head says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ApiError
from router.proxy.framing import ChunkedFraming, CloseFraming, FramingError, LengthFraming
from router.proxy.heads import parse_request_head, parse_response_head


def request(*lines: bytes, first: bytes = b"POST /v1/completions HTTP/1.1", host: bytes = b"Host: weft\r\n") -> bytes:
    return first + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def response(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"".join(line + b"\r\n" for line in (first, *lines)) + b"\r\n"


def test_a_request_is_read():
    head = parse_request_head(
        request(b"Content-Type: application/json", b"X-Thing:  a b ", b"CONTENT-LENGTH: 12", b"Expect: 100-Continue")
    )
    assert (head.method, head.target, head.path) == ("POST", b"/v1/completions", "/v1/completions")
    assert head.headers[1:3] == [(b"content-type", b"application/json"), (b"x-thing", b"a b")]
    assert (head.length, head.keep_alive, head.http_1_0, head.expects_continue) == (12, True, False, True)


def test_the_query_belongs_to_the_target_only():
    head = parse_request_head(request(first=b"GET /metrics?name=a%20b HTTP/1.1"))
    assert (head.target, head.path) == (b"/metrics?name=a%20b", "/metrics")


def test_a_target_in_absolute_form_is_cut_to_its_path():
    assert parse_request_head(request(first=b"POST HTTP://weft:80/v1/x?y HTTP/1.1")).target == b"/v1/x?y"
    assert parse_request_head(request(first=b"GET http://weft HTTP/1.1")).target == b"/"


def test_an_offered_upgrade_is_ignored():
    head = parse_request_head(request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"Content-Length: 3"))
    assert head.length == 3


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: foo, Close\r\n", False),
        (b"1.1", b"Connection: close\r\nConnection: keep-alive\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_whether_the_connection_is_kept(version, connection, keep_alive):
    raw = request(first=b"GET / HTTP/" + version, host=b"Host: weft\r\n" + connection)
    assert parse_request_head(raw).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("line", "is_json"),
    [
        (b"X: y", True),
        (b"Content-Type: application/json", True),
        (b"Content-Type: Application/JSON ; charset=utf-8", True),
        (b"Content-Type: application/vnd.thing+json", True),
        (b"Content-Type: multipart/form-data; boundary=x", False),
        (b"Content-Type: text/plain", False),
    ],
)
def test_whether_the_body_is_json(line, is_json):
    assert parse_request_head(request(line)).is_json is is_json


MALFORMED = {
    "lengths that differ": request(b"Content-Length: 1", b"Content-Length: 2"),
    "the same length twice": request(b"Content-Length: 1", b"Content-Length: 1"),
    "a list of lengths": request(b"Content-Length: 1, 1"),
    "a signed length": request(b"Content-Length: +1"),
    "an empty length": request(b"Content-Length:"),
    "a length in hexadecimal": request(b"Content-Length: 0x10"),
    "a length beyond 64 bits": request(b"Content-Length: 99999999999999999999"),
    "length and transfer coding": request(b"Content-Length: 1", b"Transfer-Encoding: chunked"),
    "transfer coding and length": request(b"Transfer-Encoding: chunked", b"Content-Length: 1"),
    "transfer coding twice": request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "transfer coding in HTTP/1.0": request(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"),
    "a bare LF": b"POST / HTTP/1.1\r\nHost: weft\nX: y\r\n\r\n",
    "a bare LF after the request line": b"POST / HTTP/1.1\nHost: weft\r\n\r\n",
    "a bare CR": request(b"X: a\rY: b"),
    "obs-fold": request(b"X: a", b" b"),
    "obs-fold with a tab": request(b"X: a", b"\tb"),
    "a folded first header": request(host=b" Host: weft\r\n"),
    "NUL in a value": request(b"X: a\0b"),
    "NUL in a name": request(b"X\0: a"),
    "NUL in the target": request(first=b"POST /\0 HTTP/1.1"),
    "a control character in a value": request(b"X: a\x01b"),
    "a space before the colon": request(b"X : a"),
    "no colon": request(b"X"),
    "an empty name": request(b": a"),
    "a name that is no token": request(b"X\xff: a"),
    "HTTP/2.0": request(first=b"POST / HTTP/2.0"),
    "HTTP/1.2": request(first=b"POST / HTTP/1.2"),
    "HTTP/0.9": request(first=b"POST / HTTP/0.9"),
    "no version": request(first=b"POST /"),
    "another protocol": request(first=b"POST / RTSP/1.0"),
    "two spaces": request(first=b"POST  / HTTP/1.1"),
    "a space in the target": request(first=b"POST /a b HTTP/1.1"),
    "a space after the version": request(first=b"POST / HTTP/1.1 "),
    "no target": request(first=b"POST HTTP/1.1"),
    "a target without slash": request(first=b"POST v1 HTTP/1.1"),
    "a fragment": request(first=b"POST /a#b HTTP/1.1"),
    "bytes before the request line": b"\n" + request(),
    "no host": request(host=b""),
    "two hosts": request(b"Host: other"),
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "nothing": b"\r\n\r\n",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_could_be_read_in_two_ways_is_refused(raw):
    with pytest.raises(ApiError) as refused:
        parse_request_head(raw)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (request(b"Transfer-Encoding: gzip, chunked"), 501),
        (request(b"Transfer-Encoding: identity"), 400),
        (request(first=b"BREW /pot HTTP/1.1"), 501),
        (request(b"Expect: a miracle"), 417),
    ],
)
def test_what_is_not_known_here_has_its_own_status(raw, status):
    with pytest.raises(ApiError) as refused:
        parse_request_head(raw)
    assert refused.value.status == status


@given(st.binary(max_size=60), st.integers(0, 80), st.integers(0, 80))
def test_any_bytes_are_a_request_or_refused(noise, start, end):
    raw = request(b"Content-Length: 3", b"X: y")
    noisy = raw[: start % len(raw)] + noise + raw[max(start, end) % len(raw) :]
    refused = 0
    values: list[bytes] = []
    try:
        values = [value for _, value in parse_request_head(noisy.partition(b"\r\n\r\n")[0] + b"\r\n\r\n").headers]
    except ApiError as error:
        refused = error.status
    assert refused in (0, 400, 417, 501)
    assert not any(b"\r" in value or b"\n" in value for value in values)


@pytest.mark.parametrize(
    ("raw", "framing", "keep_alive"),
    [
        (response(b"Content-Length: 5"), LengthFraming, True),
        (response(b"Transfer-Encoding: Chunked"), ChunkedFraming, True),
        (response(b"Content-Length: 5", b"Connection: close"), LengthFraming, False),
        (response(), CloseFraming, True),
        (response(b"Content-Length: 5", first=b"HTTP/1.0 200 OK"), LengthFraming, False),
        (response(first=b"HTTP/1.1 204 No Content"), LengthFraming, True),
    ],
)
def test_a_replicas_head_says_where_the_body_ends(raw, framing, keep_alive):
    head = parse_response_head(raw)
    assert isinstance(head.framing(), framing)
    assert head.keep_alive is keep_alive


def test_a_replicas_head_is_read():
    head = parse_response_head(response(b"Content-Type: text/event-stream; charset=utf-8", b"X: y"))
    assert (head.status, head.reason, head.content_type) == (200, b"OK", b"text/event-stream")
    assert head.headers[1] == (b"x", b"y")


@pytest.mark.parametrize(
    "raw",
    [
        response(b"Content-Length: 5", b"Content-Length: 6"),
        response(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        response(b"Transfer-Encoding: gzip"),
        response(first=b"HTTP/2 200 OK"),
        response(first=b"ICY 200 OK"),
        response(first=b"HTTP/1.1 OK"),
        b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n",
        response(b"X: a\0"),
        b"\r\n\r\n",
    ],
)
def test_a_replica_that_does_not_speak_http_is_found_out(raw):
    with pytest.raises(FramingError):
        parse_response_head(raw)
