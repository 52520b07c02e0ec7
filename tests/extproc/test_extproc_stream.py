"""The state machine of one request, without gRPC: what comes out depends on what was said, not on how it was cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ApiError
from router.extproc.messages import (
    BodyMode,
    Modes,
    ProtocolError,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from router.extproc.proto.external_processor_pb2 import ProcessingResponse
from router.extproc.stream import Answering, Route, Sign, State, Stream
from router.extproc.wire import MAX_CHUNK_BYTES, Destination

HEADERS = [(b":method", b"POST"), (b":path", b"/v1/chat/completions")]
THERE = Destination("10.0.0.1:8000", "a")
FULL_DUPLEX = Modes()
STREAMED = Modes(BodyMode.STREAMED)
EARLY = Modes(BodyMode.STREAMED, body_comes_before_answer=True)
BUFFERED = Modes(BodyMode.BUFFERED)


def head(modes=FULL_DUPLEX, ends=False):
    return RequestHeaders(HEADERS, ends, modes)


def parsed(answers):
    return [ProcessingResponse.FromString(each) for each in answers]


def kinds(answers):
    return [each.WhichOneof("response") for each in parsed(answers)]


def chunks_of(answers):
    told = [each for each in parsed(answers) if each.WhichOneof("response") == "request_body"]
    return [each.request_body.response.body_mutation.streamed_response for each in told]


def run(stream, messages):
    """All events; the request is sent on as soon as it can be."""
    events = []
    for message in messages:
        for event in stream.receive(message):
            events.append(event)
            if isinstance(event, Route):
                events += stream.send_to(THERE, [], [], b"")
    return events


def said(events):
    return [each for each in events if isinstance(each, bytes)]


def routes(events):
    return [each for each in events if isinstance(each, Route)]


@st.composite
def bodies_cut(draw):
    """A body and the pieces in which it comes; some are empty."""
    filler = draw(st.sampled_from([0, 0, 0, MAX_CHUNK_BYTES - 1, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES + 7]))
    body = draw(st.binary(max_size=200)) + bytes(filler)
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=6)))
    edges = [0, *cuts, len(body)]
    return body, [body[start:end] for start, end in pairwise(edges)]


@given(bodies_cut(), st.booleans(), st.booleans())
def test_however_a_body_is_cut_the_same_is_routed_and_the_same_bytes_go_back(cut, trailers, end_apart):
    body, pieces = cut
    last = [] if trailers else [RequestBody(b"", True)] if end_apart else [RequestBody(pieces.pop(), True)]
    messages = [head(), *(RequestBody(each) for each in pieces), *last, *([RequestTrailers()] if trailers else [])]
    events = run(Stream(1 << 20), messages)
    assert [route.body for route in routes(events)] == [body]
    answers = said(events)
    chunks = chunks_of(answers)
    expected = ["request_headers", *["request_body"] * len(chunks), *(["request_trailers"] if trailers else [])]
    assert kinds(answers) == expected
    assert b"".join(chunk.body for chunk in chunks) == body
    assert all(len(chunk.body) <= MAX_CHUNK_BYTES for chunk in chunks)
    assert [chunk.end_of_stream for chunk in chunks] == [False] * (len(chunks) - 1) + [not trailers]


@given(bodies_cut())
def test_streamed_pieces_get_an_answer_each_behind_the_heads(cut):
    _, pieces = cut
    *first, last = pieces
    stream = Stream(1 << 20)
    messages = [head(STREAMED), *(RequestBody(each) for each in first), RequestBody(last, True)]
    events = run(stream, messages)
    assert [route.body for route in routes(events)] == [None]
    assert kinds(said(events)) == ["request_headers", *["request_body"] * len(pieces)]
    assert not any(chunk.body for chunk in chunks_of(said(events))), "Envoy has the bytes"
    assert stream.state is State.OVER


def test_streamed_bodies_that_come_before_the_heads_answer_are_refused():
    with pytest.raises(ApiError, match="sends bodies twice"):
        Stream(1 << 20).receive(head(EARLY))


@given(st.binary(max_size=300), st.booleans())
def test_a_buffered_body_decides_in_its_own_answer(body, ends):
    events = run(Stream(1 << 20), [head(BUFFERED), RequestBody(body, ends)])
    assert [route.body for route in routes(events)] == [body]
    let_pass, decided = parsed(said(events))
    assert let_pass == ProcessingResponse(request_headers={})
    assert decided.request_body.response.clear_route_cache
    assert not decided.request_body.response.HasField("body_mutation")


def test_a_body_that_was_cut_off_is_not_known():
    partial = Modes(BodyMode.BUFFERED_PARTIAL)
    events = run(Stream(1 << 20), [head(partial), RequestBody(b'{"model":', False)])
    assert [route.body for route in routes(events)] == [None]
    assert kinds(said(events)) == ["request_headers", "request_body"]
    assert routes(run(Stream(1 << 20), [head(partial), RequestBody(b"{}", True)]))[0].body == b"{}"


@pytest.mark.parametrize(("modes", "state"), [(Modes(BodyMode.NONE), State.OVER), (STREAMED, State.FOLLOWING)])
def test_without_its_body_a_request_is_routed_by_its_head(modes, state):
    stream = Stream(1 << 20)
    events = run(stream, [head(modes)])
    assert [(route.body, route.is_bodiless) for route in routes(events)] == [(None, False)]
    assert kinds(said(events)) == ["request_headers"]
    assert stream.state is state


@pytest.mark.parametrize("modes", [FULL_DUPLEX, EARLY, BUFFERED, Modes(BodyMode.NONE)])
def test_a_request_without_a_body_is_decided_in_the_answer_to_its_head(modes):
    events = run(Stream(1 << 20), [head(modes, ends=True)])
    assert routes(events)[0].is_bodiless
    assert kinds(said(events)) == ["request_headers"]


def test_what_a_gateway_does_not_say_is_taken_for_granted():
    stream = Stream(1 << 20, BUFFERED)
    events = run(stream, [RequestHeaders(HEADERS), RequestBody(b"{}", True)])
    assert kinds(said(events)) == ["request_headers", "request_body"]


def test_once_decided_the_stream_may_be_closed():
    stream = Stream(1 << 20)
    run(stream, [head(), RequestBody(b"{}", True)])
    assert stream.state is State.OVER


def test_answers_come_by_unchanged_where_they_are_followed():
    stream = Stream(1 << 20, follows=True, answer_headers=[(b"x-weft-replica", b"a")])
    modes = Modes(BodyMode.FULL_DUPLEX_STREAMED, BodyMode.FULL_DUPLEX_STREAMED)
    run(stream, [head(modes), RequestBody(b"{}", True)])
    passed, answering = stream.receive(ResponseHeaders(200, served="10.0.0.2:8000"))
    options = parsed([passed])[0].response_headers.response.header_mutation.set_headers
    assert [(each.header.key, each.header.raw_value) for each in options] == [("x-weft-replica", b"a")]
    assert answering == Answering(200, "10.0.0.2:8000")
    *echoed, sign = stream.receive(ResponseBody(b"x" * (MAX_CHUNK_BYTES + 1)))
    assert sign is Sign.FIRST_BYTE
    sent = [each.response_body.response.body_mutation.streamed_response for each in parsed(echoed)]
    assert b"".join(each.body for each in sent) == b"x" * (MAX_CHUNK_BYTES + 1)
    assert not any(each.end_of_stream for each in sent)
    echoed, ended = stream.receive(ResponseBody(b"", True))
    assert parsed([echoed])[0].response_body.response.body_mutation.streamed_response.end_of_stream
    assert ended is Sign.ENDED


def test_streamed_answers_are_let_pass_piece_by_piece():
    stream = Stream(1 << 20, follows=True)
    modes = Modes(BodyMode.FULL_DUPLEX_STREAMED, BodyMode.STREAMED)
    run(stream, [head(modes), RequestBody(b"{}", True), ResponseHeaders(200)])
    passed, _ = stream.receive(ResponseBody(b"data"))
    assert parsed([passed]) == [ProcessingResponse(response_body={})]
    passed, ended = stream.receive(ResponseTrailers())
    assert parsed([passed]) == [ProcessingResponse(response_trailers={})]
    assert ended is Sign.ENDED


def test_a_decided_streamed_request_that_is_followed_goes_on_with_its_body():
    stream = Stream(1 << 20, follows=True)
    events = run(
        stream, [head(Modes(BodyMode.STREAMED)), RequestBody(b"a"), RequestBody(b"b", True), RequestTrailers()]
    )
    assert kinds(said(events)) == ["request_headers", "request_body", "request_body", "request_trailers"]


def test_an_answer_of_envoys_own_ends_a_request_that_was_not_decided():
    stream = Stream(1 << 20)
    stream.receive(head())
    passed, sign = stream.receive(ResponseHeaders(408))
    assert parsed([passed]) == [ProcessingResponse(response_headers={})]
    assert sign is Sign.GIVEN_UP
    assert stream.state is State.OVER


@pytest.mark.parametrize(
    "messages",
    [
        [RequestBody(b"{}", True)],
        [RequestTrailers()],
        [ResponseHeaders(200)],
        [ResponseBody(b"")],
        [head(), head()],
        [head(), ResponseBody(b"")],
        [head(), ResponseTrailers()],
        [head(), RequestBody(b"{}", True), RequestBody(b"")],
        [head(BUFFERED), RequestTrailers()],
        [head(ends=True), RequestTrailers()],
    ],
    ids=lambda messages: "+".join(type(each).__name__ for each in messages),
)
def test_what_cannot_come_now_is_an_error_that_says_so(messages):
    stream = Stream(1 << 20)
    with pytest.raises(ProtocolError, match=r"^(request|response)_(headers|body|trailers): "):
        run(stream, messages)


def test_too_large_a_body_is_refused_as_soon_as_it_is():
    stream = Stream(10)
    stream.receive(head())
    assert stream.receive(RequestBody(b"12345678")) == []
    with pytest.raises(ApiError) as refused:
        stream.receive(RequestBody(b"901"))
    assert refused.value.status == 413


MESSAGES = st.sampled_from(
    [
        head(),
        head(BUFFERED),
        head(STREAMED),
        head(ends=True),
        RequestBody(b"ab"),
        RequestBody(b"c", True),
        RequestTrailers(),
        ResponseHeaders(200),
        ResponseBody(b"x"),
        ResponseBody(b"", True),
        ResponseTrailers(),
    ]
)


@given(st.lists(MESSAGES, max_size=8), st.booleans())
def test_any_order_of_messages_is_answered_or_is_a_protocol_error_and_routes_at_most_once(messages, follows):
    stream = Stream(1 << 20, follows=follows)
    events = []
    try:
        for message in messages:
            events += run(stream, [message])
    except ProtocolError:
        pass
    assert len(routes(events)) <= 1
    assert all(kind is not None for kind in kinds(said(events)))
