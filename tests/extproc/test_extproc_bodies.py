"""Bodies in each of Envoy's modes, up to the largest; answers that are followed."""

import pytest
from extproc_rig import (
    BUFFERED,
    BUFFERED_PARTIAL,
    FULL_DUPLEX,
    STREAMED,
    Pod,
    bare,
    chat,
    request_body,
    request_headers,
    serving,
    until,
)

from router.extproc.wire import MAX_CHUNK_BYTES

MIB = 1 << 20


def pieces(body, size):
    """As Envoy sends them: the end may come by itself."""
    return [*(request_body(body[at : at + size], False) for at in range(0, len(body), size)), request_body()]


async def exchange(gateway, messages):
    """All answers, read while the messages are sent."""
    call = gateway.open()
    for message in messages:
        await call.send(message)
    await call.close()
    return await call.rest()


@pytest.mark.parametrize("size", [1, 100, MAX_CHUNK_BYTES, 1 << 17])
async def test_full_duplex_bodies_come_back_as_they_were_in_small_pieces(size):
    async with serving(Pod()) as gateway:
        body = chat("x" * (600 if size < 200 else 200_000))
        decided, *rest = await exchange(gateway, [request_headers(), *pieces(body, size)])
        assert decided.endpoint == "10.0.0.1:8000"
        assert b"".join(told.chunk for told in rest) == body
        assert max(len(told.chunk) for told in rest) <= MAX_CHUNK_BYTES
        assert [told.ends for told in rest] == [False] * (len(rest) - 1) + [True]


async def test_trailers_are_answered_in_their_turn():
    async with serving(Pod()) as gateway:
        answers = await exchange(gateway, [request_headers(), request_body(chat(), False), bare("request_trailers")])
        assert [told.kind for told in answers] == ["request_headers", "request_body", "request_trailers"]
        assert not answers[1].ends, "the trailers end it"


async def test_streamed_bodies_are_let_pass_to_their_last_piece():
    async with serving(Pod()) as gateway:
        *body, last = pieces(chat("x" * 1000), 300)
        call = gateway.open()
        await call.send(request_headers(mode=STREAMED))
        assert (await call.next()).endpoint == "10.0.0.1:8000"
        await call.send(*body)
        for _ in body:
            assert not (await call.next()).answer.request_body.response.HasField("body_mutation")
        assert gateway.rig.stats.streams_open == 1
        await call.send(last)
        assert [told.kind for told in await call.rest()] == ["request_body"]
        assert (await call.status())[0].name == "OK"
        assert gateway.rig.in_flight == 1, "the log tells its end"


async def test_a_gateway_may_close_a_stream_whose_body_is_streamed():
    async with serving(Pod()) as gateway:
        call = gateway.open()
        await call.send(request_headers(mode=STREAMED))
        assert (await call.next()).endpoint == "10.0.0.1:8000"
        await call.close()
        assert await call.rest() == []
        assert (await call.status())[0].name == "OK"
        assert gateway.rig.in_flight == 1


async def test_a_mode_in_which_envoy_sends_bodies_twice_is_refused():
    async with serving(Pod()) as gateway:
        (told,) = await exchange(gateway, [request_headers(mode=STREAMED, early_body=True)])
        status, _, error = told.refusal
        assert (status, error["code"], gateway.rig.in_flight) == (500, "body_mode", 0)
        (decided,) = await exchange(gateway, [request_headers(mode=STREAMED, early_body=True, ends=True, method="GET")])
        assert decided.endpoint == "10.0.0.1:8000", "there is no body to be damaged"


async def test_a_body_over_the_limit_is_413_and_nothing_is_routed():
    async with serving(Pod(), limits={"max_body_bytes": 1000}) as gateway:
        (told,) = await exchange(gateway, [request_headers(), request_body(b"x" * 999, False), request_body(b"xx")])
        status, _, error = told.refusal
        assert (status, gateway.rig.router.stats.submitted) == (413, 0)
        assert "1000 bytes" in error["message"]


@pytest.mark.parametrize("mode", [FULL_DUPLEX, BUFFERED], ids=["full duplex", "buffered"])
async def test_64_mib_go_through(mode):
    async with serving(Pod()) as gateway:
        body = bytes(64 * MIB)
        head = request_headers({"content-type": "audio/wav", "x-request-id": "1"}, mode=mode)
        if mode == BUFFERED:
            _, decided = await exchange(gateway, [head, request_body(body)])
        else:
            decided, *rest = await exchange(gateway, [head, *pieces(body, 4 * MIB)])
            assert b"".join(told.chunk for told in rest) == body
        assert decided.endpoint == "10.0.0.1:8000"


async def test_a_body_that_envoy_cut_off_does_not_make_the_request_wrong():
    async with serving(Pod()) as gateway:
        messages = [request_headers(mode=BUFFERED_PARTIAL), request_body(chat()[:20], False)]
        _, decided = await exchange(gateway, messages)
        assert decided.endpoint == "10.0.0.1:8000"


def response(kind, data=b"", ends=False, status=200, served=""):
    message = bare(kind)
    if kind == "response_headers":
        message.response_headers.headers.headers.add(key=":status", raw_value=str(status).encode())
    else:
        message.response_body.body = data
    getattr(message, kind).end_of_stream = ends
    if served:
        told = {"x-gateway-destination-endpoint-served": served}
        message.metadata_context.filter_metadata["envoy.lb"].update(told)
    return message


async def decided_call(gateway, headers=None, response_mode=FULL_DUPLEX):
    call = gateway.open()
    named = {"content-type": "application/json", "x-request-id": "id-1"} | (headers or {})
    await call.send(request_headers(named, response_mode=response_mode), request_body(chat(stream=True)))
    assert (await call.next()).kind == "request_headers"
    assert (await call.next()).kind == "request_body"
    return call


async def test_by_default_the_answer_is_none_of_wefts_business():
    async with serving(Pod()) as gateway:
        call = await decided_call(gateway)
        assert await call.next() is None, "the stream is closed: Envoy does the rest alone"
        assert (await call.status())[0].name == "OK"


async def test_a_gateway_that_insists_gets_each_piece_back_and_the_end_is_seen():
    async with serving(Pod(), extproc={"responses": "follow"}) as gateway:
        call = await decided_call(gateway)
        assert gateway.rig.in_flight == 1
        await call.send(response("response_headers"))
        head = await call.next()
        assert head.set == {"x-weft-replica": "10.0.0.1:8000", "x-request-id": "id-1"}
        for event in (b"data: 1\n\n", b"data: 2\n\n"):
            await call.send(response("response_body", event))
            told = await call.next()
            assert (told.chunk, told.ends) == (event, False)
        assert gateway.rig.router.load.started[0] == 1, "the first piece ended the prefill"
        await call.send(response("response_body", ends=True))
        assert (await call.next()).ends
        await until(lambda: gateway.rig.in_flight == 0)
        assert gateway.rig.router.stats.ttft_s.total > 0


@pytest.mark.parametrize(("status", "outcome"), [(200, "OK"), (400, "OK"), (503, "REJECTED"), (500, "FAILED")])
async def test_the_status_says_how_a_followed_request_ended(status, outcome):
    async with serving(Pod(), extproc={"responses": "follow"}) as gateway:
        call = await decided_call(gateway)
        await call.send(response("response_headers", status=status, ends=True))
        await call.next()
        await until(lambda: gateway.rig.noted)
        assert [(name, how.name) for name, how in gateway.rig.noted] == [("10.0.0.1:8000", outcome)]


async def test_a_request_that_asks_why_is_told_so_in_the_answers_head():
    async with serving(Pod()) as gateway:
        call = await decided_call(gateway, {"x-weft-explain": "1"})
        await call.send(response("response_headers"))
        told = await call.next()
        assert told.set["x-weft-explain"].startswith('{"queue"')


async def test_the_served_endpoint_is_fed_back():
    async with serving(Pod(), Pod(9), extproc={"conformance": True}) as gateway:
        call = await decided_call(gateway)
        await call.send(response("response_headers", served="10.0.0.2:8000"))
        assert (await call.next()).set["x-conformance-test-served-endpoint"] == "10.0.0.2:8000"
        assert gateway.rig.stats.served_elsewhere == 1
        assert [(name, how.name) for name, how in gateway.rig.noted] == [("10.0.0.1:8000", "FAILED")]


async def test_a_followed_stream_that_ends_early_leaves_the_end_to_others():
    async with serving(Pod(), extproc={"responses": "follow"}) as gateway:
        call = await decided_call(gateway)
        call.cancel()
        await until(lambda: gateway.rig.stats.streams_open == 0)
        assert gateway.rig.in_flight == 1
        gateway.rig.now_s += 6
        gateway.rig.report(0, 0, 0)
        assert gateway.rig.in_flight == 0
