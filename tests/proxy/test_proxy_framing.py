"""The framing scanner, against llhttp."""

from itertools import pairwise

import pytest
from httptools import HttpParserError, HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from router.proxy.framing import (
    MAX_LINE_BYTES,
    MAX_PADDING_BYTES,
    MAX_TRAILER_BYTES,
    ChunkedFraming,
    CloseFraming,
    Framing,
    FramingError,
    LengthFraming,
)

CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class LlhttpBody:
    """What llhttp makes of a chunked body."""

    def __init__(self, body: bytes) -> None:
        self.payload = b""
        self.ended = False
        self.error = False
        try:
            HttpRequestParser(self).feed_data(CHUNKED_HEAD + body)
        except HttpParserError:
            self.error = True

    def on_body(self, data: bytes) -> None:
        self.payload += data

    def on_message_complete(self) -> None:
        self.ended = True


def follow(framing: Framing, pieces: list[bytes]) -> tuple[int, bytes]:
    """Where the body ends, counted over all pieces, or -1; and its payload."""
    payload = bytearray()
    before = 0
    for piece in pieces:
        end = framing.feed(piece, payload)
        if end >= 0:
            return before + end, bytes(payload)
        before += len(piece)
    return -1, bytes(payload)


def cut(data: bytes, points: list[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(point % (len(data) + 1) for point in points)})
    return [data[start:end] for start, end in pairwise(bounds)]


sizes = st.sampled_from(["%x", "%X", "00%x"])
extensions = st.sampled_from(["", ";a=b", ';name="quoted text"', ";a;b=c"])
payloads = st.binary(min_size=1, max_size=40)
trailers = st.sampled_from([b"", b"X-Checksum: abc\r\n", b"A: 1\r\nB: 2\r\n"])


@st.composite
def chunked_bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A body with its framing, and without."""
    parts = draw(st.lists(payloads, max_size=6))
    body = b""
    for part in parts:
        size = draw(sizes) % len(part) + draw(extensions)
        body += size.encode() + b"\r\n" + part + b"\r\n"
    return body + b"0\r\n" + draw(trailers) + b"\r\n", b"".join(parts)


@given(chunked_bodies(), st.lists(st.integers(0, 1000), max_size=20), st.binary(max_size=10))
def test_however_a_body_is_cut_its_end_and_payload_are_found(body, points, surplus):
    framed, payload = body
    assert follow(ChunkedFraming(), cut(framed + surplus, points)) == (len(framed), payload)
    reference = LlhttpBody(framed)
    assert (reference.payload, reference.ended) == (payload, True)


@given(chunked_bodies())
def test_byte_by_byte_is_the_same(body):
    framed, payload = body
    pieces = [framed[at : at + 1] for at in range(len(framed))]
    assert follow(ChunkedFraming(), pieces) == (len(framed), payload)


@given(st.text("01aF \r\n;:xG=", max_size=40).map(str.encode), st.lists(st.integers(0, 1000), max_size=5))
def test_what_is_accepted_means_the_same_to_llhttp(body, points):
    try:
        end, payload = follow(ChunkedFraming(), cut(body, points))
    except FramingError:
        return
    if end < 0:
        return
    reference = LlhttpBody(body[:end])
    if not reference.error:
        assert (reference.payload, reference.ended) == (payload, True)
    else:
        assert b";" in body or b":" in body, "only extensions and trailers may be read more freely"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"xyz\r\n", id="no number"),
        pytest.param(b"\r\n", id="empty size"),
        pytest.param(b"0x1\r\na\r\n", id="0x"),
        pytest.param(b"+1\r\na\r\n", id="sign"),
        pytest.param(b"1_0\r\n", id="underscore"),
        pytest.param(b" 1\r\na\r\n", id="space before"),
        pytest.param(b"1 \r\na\r\n", id="space after"),
        pytest.param(b"1" * 17 + b"\r\n", id="more than 64 bits"),
        pytest.param(b"1\na\r\n", id="bare LF after the size"),
        pytest.param(b"1\rX\na\r\n", id="CR without LF"),
        pytest.param(b"1;a\x00\r\na\r\n", id="NUL in an extension"),
        pytest.param(b"1;a\nb\r\na\r\n", id="LF in an extension"),
        pytest.param(b"1\r\nab\r\n", id="chunk longer than its size"),
        pytest.param(b"1\r\na\n", id="chunk without CR"),
        pytest.param(b"0\r\nnot a header\r\n\r\n", id="trailer without colon"),
        pytest.param(b"0\r\na: b\nc: d\r\n\r\n", id="bare LF in the trailer"),
        pytest.param(b"0\r\n: b\r\n\r\n", id="trailer without name"),
        pytest.param(b"1;" + b"x" * MAX_LINE_BYTES, id="endless extension"),
        pytest.param(b"0\r\n" + b"a: b\r\n" * MAX_TRAILER_BYTES, id="endless trailer"),
    ],
)
def test_a_malformed_body_is_an_error_whole_and_byte_by_byte(body):
    with pytest.raises(FramingError):
        follow(ChunkedFraming(), [body])
    with pytest.raises(FramingError):
        follow(ChunkedFraming(), [body[at : at + 1] for at in range(len(body))])


@given(chunked_bodies(), st.integers(0, 1000))
def test_after_padding_more_chunks_can_follow(body, point):
    framed, payload = body
    seen = framed[: point % len(framed)]
    framing = ChunkedFraming()
    received = bytearray()
    framing.feed(seen, received)
    padding = framing.padding()
    if padding is None:
        size_line = seen.rpartition(b"\n")[2].removesuffix(b"\r")
        assert b";" in size_line or size_line.strip(b"0") == b"" or payload == bytes(received)
        return
    reference = LlhttpBody(seen + padding + b"5\r\nadded\r\n0\r\n\r\n")
    assert reference.ended
    assert reference.payload.startswith(bytes(received))
    assert reference.payload.endswith(b"added")
    assert reference.payload[len(received) : -5].strip(b"\n") == b""
    assert payload.startswith(bytes(received))


def test_a_size_line_that_is_none_is_not_padded():
    framing = ChunkedFraming()
    framing.feed(b"nonsense")
    assert framing.padding() is None


def test_a_chunk_of_which_too_much_is_missing_is_not_padded():
    framing = ChunkedFraming()
    framing.feed(b"%x\r\n" % (MAX_PADDING_BYTES + 1))
    assert framing.padding() is None
    framing.feed(b"x")
    assert framing.padding() == b"\n" * MAX_PADDING_BYTES + b"\r\n"


@given(st.binary(max_size=60), st.integers(0, 60), st.lists(st.integers(0, 1000), max_size=8))
def test_a_length_ends_where_it_says(data, length, points):
    pieces = [b"", *cut(data, points)]
    expected = (length, data[:length]) if length <= len(data) else (-1, data)
    framing = LengthFraming(length)
    assert follow(framing, pieces) == expected
    assert framing.close() == (length <= len(data))


def test_a_body_that_ends_with_its_connection_has_no_other_end():
    framing = CloseFraming()
    assert follow(framing, [b"a", b"", b"b"]) == (-1, b"ab")
    assert framing.close()


def test_a_chunked_body_is_complete_only_after_its_last_line():
    framing = ChunkedFraming()
    assert framing.feed(b"1\r\na\r\n0\r\n") == -1
    assert not framing.close()
    assert framing.feed(b"\r\nrest") == 2
    assert framing.close()
