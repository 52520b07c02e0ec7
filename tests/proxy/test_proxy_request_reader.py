"""Requests are cut out of a client's bytes, wherever the network cuts them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_rig import chunk

from router.errors import ApiError
from router.proxy.request_reader import Part, RequestReader

HEAD = b"POST /v1/x HTTP/1.1\r\nHost: weft\r\n"


def with_length(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def in_chunks(body: bytes) -> bytes:
    chunks = [chunk(body[at : at + 3]) for at in range(0, len(body), 3)]
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n"


def reader() -> RequestReader:
    return RequestReader(max_head_bytes=500, max_body_bytes=100)


def bodies(pieces: list[bytes]) -> list[bytes]:
    """The bodies of all requests in ``pieces``."""
    read, found = reader(), []
    for piece in pieces:
        read.feed(piece)
        while (request := read.next_request()) is not None:
            found.append(request.body)
    assert read.part is Part.NOTHING
    return found


contents = st.lists(st.tuples(st.sampled_from([with_length, in_chunks]), st.binary(max_size=40)), max_size=4)


@given(contents, st.sets(st.integers(1, 600)))
def test_however_they_are_cut_the_same_requests_come_out(requests, points):
    data = b"".join(encode(body) for encode, body in requests)
    bounds = [0, *sorted(point for point in points if point < len(data)), len(data)]
    assert bodies([data[start:end] for start, end in pairwise(bounds)]) == [body for _, body in requests]


def test_byte_by_byte_it_says_what_it_waits_for():
    read, data = reader(), with_length(b"ab")
    parts = []
    for at in range(len(data)):
        read.feed(data[at : at + 1])
        request = read.next_request()
        parts.append(read.part)
    assert request is not None
    head_bytes = len(data) - len(b"ab")
    assert parts == [Part.HEAD] * (head_bytes - 1) + [Part.BODY] * 2 + [Part.NOTHING]


def test_an_empty_line_before_a_request_is_skipped():
    assert bodies([b"\r\n" + with_length(b"a"), b"\r\n", with_length(b"b")]) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\n", 400),
        (b"\n", 400),
        (b"GET /\0", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 500, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 480 + b"\r\n\r\n", 431),
        (with_length(b"x" * 101)[:-50], 413),
        (in_chunks(b"x" * 101), 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nfoo\r\n", 400),
    ],
)
def test_what_cannot_become_a_request_is_refused_as_soon_as_it_is_seen(data, status):
    read = reader()
    read.feed(data)
    with pytest.raises(ApiError) as refused:
        read.next_request()
    assert refused.value.status == status


def test_limits_are_the_last_that_is_allowed():
    assert bodies([with_length(b"x" * 100), in_chunks(b"x" * 100)]) == [b"x" * 100] * 2
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX: "
    assert bodies([head + b"y" * (500 - len(head) - 4) + b"\r\n\r\n"]) == [b""]
