"""What of a replica's answer reaches the client, and how."""

import asyncio
import json
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy_rig import (
    ANSWER,
    DONE,
    END,
    ROLE,
    STREAM_HEAD,
    Call,
    answering,
    chunk,
    delta,
    event,
    ok,
    post,
    settled,
    weft,
    within,
)

from router.core.types import Decision, Outcome, Usage

STREAM = ROLE + delta("Hel") + delta("lo", "stop") + DONE + END
USAGE = b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}'


async def test_an_answer_passes_with_its_status_and_headers():
    extra = "date: today\r\nx-weft-replica: forged\r\nkeep-alive: timeout=5\r\nx-thing: y\r\nx-request-id: theirs\r\n"
    async with weft(answering(ok(extra=extra, status="201 Made Up"))) as rig:
        client = await rig.connect()
        answer = await client.ask(post(extra="X-Request-Id: mine\r\n"))
        assert answer.head == (
            b"HTTP/1.1 201 Made Up\r\nserver: uvicorn\r\ncontent-type: application/json\r\ndate: today\r\n"
            b"x-thing: y\r\nx-request-id: mine\r\nx-weft-replica: replica-0\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
        )
        assert answer.body == ANSWER


async def test_a_stream_passes_byte_for_byte_framing_included():
    async with weft(answering(STREAM_HEAD, STREAM)) as rig:
        client = await rig.connect()
        client.send(post())
        _, headers, _ = await client.head()
        assert headers[b"transfer-encoding"] == b"chunked"
        assert await within(client.reader.readexactly(len(STREAM))) == STREAM
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.OK)]


async def test_each_event_passes_as_soon_as_it_comes():
    steps: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(call: Call) -> None:
        call.send(STREAM_HEAD)
        while (piece := await steps.get()) != END:
            call.send(piece)
        call.send(END)

    async with weft(script) as rig:
        client = await rig.connect()
        client.send(post())
        steps.put_nowait(ROLE + delta("a"))
        await client.head()
        chunks = client.chunks()
        assert b"assistant" in await anext(chunks)
        for letter in "abc":
            assert f'"{letter}"'.encode() in await anext(chunks)
            steps.put_nowait(delta(chr(ord(letter) + 1)))
        steps.put_nowait(END)
        assert b'"d"' in await anext(chunks)
        assert [piece async for piece in chunks] == []


JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKS = chunk(ANSWER[:10]) + chunk(ANSWER[10:]) + END
LENGTH = b"content-length: %d\r\n\r\n" % len(ANSWER)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        pytest.param(JSON_HEAD + LENGTH, ANSWER, id="length"),
        pytest.param(JSON_HEAD + b"transfer-encoding: chunked\r\n\r\n", CHUNKS, id="chunked"),
        pytest.param(STREAM_HEAD, STREAM, id="stream"),
        pytest.param(STREAM_HEAD, STREAM.removesuffix(b"\r\n") + b"x-sum: 1\r\n\r\n", id="stream with a trailer"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + JSON_HEAD + LENGTH, ANSWER, id="after 100"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + JSON_HEAD + LENGTH, ANSWER, id="after 103"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", b"", id="no content"),
        pytest.param(JSON_HEAD + b"content-length: 0\r\n\r\n", b"", id="empty"),
    ],
)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
async def test_however_an_answer_is_cut_the_client_reads_the_same(head, body, data):
    raw = head + body
    points = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=30)))
    pieces = [raw[start:end] for start, end in zip([0, *points], [*points, len(raw)], strict=True)]
    async with weft(answering(*pieces)) as rig:
        client = await rig.connect()
        client.send(post())
        status, headers, _ = await client.head()
        assert await within(client.reader.readexactly(len(body))) == body
        assert status == (204 if b"204" in head else 200)
        assert (b"transfer-encoding" in headers) == (b"transfer-encoding" in head)
        assert (await client.ask(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")).body == b"fine"
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.OK)]


async def test_an_answer_that_ends_with_its_connection_ends_so_for_the_client():
    async def script(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + ANSWER)
        call.close()

    async with weft(script) as rig:
        client = await rig.connect()
        answer = await client.ask(post())
        assert (answer.body, answer.headers[b"connection"]) == (ANSWER, b"close")
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.OK)]


async def test_a_client_of_http_1_0_gets_the_stream_without_chunks():
    async with weft(answering(STREAM_HEAD, ROLE + delta("Hel"), delta("lo", "stop"), DONE, END)) as rig:
        answer = await rig.ask(post(version="1.0", extra="Connection: keep-alive\r\n"))
        assert b"transfer-encoding" not in answer.headers
        assert answer.headers[b"connection"] == b"close"
        assert answer.body.startswith(b"data: ")
        assert answer.body.endswith(b"data: [DONE]\n\n")


async def test_a_broken_stream_ends_with_an_error_for_a_client_of_http_1_0():
    async def script(call: Call) -> None:
        call.send(STREAM_HEAD + delta("Hel"))
        call.reset()

    async with weft(script) as rig:
        answer = await rig.ask(post(version="1.0"))
        *_, error, done, rest = answer.body.split(b"\n\n")
        assert "error" in json.loads(error.removeprefix(b"data: "))
        assert (done, rest) == (b"data: [DONE]", b"")


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([ok(b'{"choices":[{"text":"a"}],' + USAGE[14:])], id="unstreamed"),
        pytest.param([STREAM_HEAD, delta("a"), event(USAGE), DONE, END], id="stream"),
        pytest.param([STREAM_HEAD + delta("a") + event(USAGE) + DONE + END], id="stream in one piece"),
        pytest.param([STREAM_HEAD, *[delta("a")] * 20, event(USAGE) + DONE, END], id="long stream"),
    ],
)
async def test_the_dispatcher_hears_what_the_answer_cost(pieces):
    async with weft(answering(*pieces)) as rig:
        await rig.ask(post())
        assert await within(rig.dispatcher.ends.get()) == ("replica-0", Outcome.OK, Usage(7, 4, 2))
        assert rig.dispatcher.started == ["replica-0"]


async def test_a_large_answer_passes_whole():
    body = json.dumps({"data": "x" * 3_000_000}).encode()
    async with weft(answering(ok(body))) as rig:
        assert (await rig.ask(post())).body == body


async def test_an_answer_of_unknown_length_is_not_held_for_ever():
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    body = json.dumps({"data": "x" * 200_000}).encode()
    finish = asyncio.Event()

    async def script(call: Call) -> None:
        call.send(head + chunk(body))
        await finish.wait()
        call.send(END)

    async with weft(script) as rig:
        client = await rig.connect()
        client.send(post())
        await client.head()
        finish.set()
        assert b"".join([piece async for piece in client.chunks()]) == body


@dataclass
class Explained:
    json: bytes

    def to_json(self) -> bytes:
        return self.json


@pytest.mark.parametrize(
    ("explanation", "header"),
    [
        (b'{"winner":"a"}', b'{"winner":"a"}'),
        (b'{\n"winner":\r\n"a"}', b'{"winner":"a"}'),
        (b"x" * 9000, b'{"truncated":true,"bytes":9000}'),
    ],
)
async def test_a_decision_is_explained_to_whom_asked(explanation, header):
    async with weft(answering(ok())) as rig:
        route = rig.dispatcher.route

        async def explained(request):
            ticket = await route(request)
            ticket.decision = Decision(ticket.decision.replica, 0, Explained(explanation))
            return ticket

        rig.dispatcher.route = explained
        assert (await rig.ask(post())).headers[b"x-weft-explain"] == header


async def test_a_replica_s_name_cannot_break_the_head():
    async with weft(answering(ok())) as rig:
        spec = rig.dispatcher.specs[0]
        rig.dispatcher.specs[0] = type(spec)(name="a\r\nx-evil: é", url=spec.url)
        assert (await rig.ask(post())).headers[b"x-weft-replica"] == b"a??x-evil: ?"


async def test_a_slow_client_holds_its_replica_up_and_nothing_else():
    total = 0

    async def script(call: Call) -> None:
        nonlocal total
        if b"fast" in call.body:
            call.send(ok())
            return
        call.send(STREAM_HEAD)
        for _ in range(600):
            call.send(delta("x" * 100_000))
            total += 100_000
            await call.flush()
        call.send(END)

    async with weft(script) as rig:
        slow = await rig.connect()
        slow.send(post())
        await slow.head()
        slow.reader._transport.pause_reading()
        await settled(lambda: total)
        assert total < 50_000_000
        assert (await rig.ask(post(b"fast"))).body == ANSWER
        slow.reader._transport.resume_reading()
        assert sum([len(piece) async for piece in slow.chunks()]) > 60_000_000
        assert len(await rig.dispatcher.outcomes(2)) == 2


async def test_a_client_that_never_reads_is_cut_off():
    async def script(call: Call) -> None:
        call.send(STREAM_HEAD)
        for _ in range(600):
            call.send(delta("x" * 100_000))

    async with weft(script, client_stall_s=0.05) as rig:
        client = await rig.connect()
        client.send(post())
        await client.head()
        client.reader._transport.pause_reading()
        await rig.replicas[0].calls[0].gone()
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.CLIENT_GONE)]
        assert rig.proxy.stats.clients_stalled == 1


async def test_a_client_that_asks_again_and_again_without_reading_is_cut_off():
    async with weft(answering(ok(b"x" * 60_000)), client_stall_s=0.05, write_buffer_bytes=1000) as rig:
        client = await rig.connect()
        client.reader._transport.pause_reading()
        client.send(post() * 1000)
        await settled(lambda: len(rig.replicas[0].calls))
        await within(rig.listener.drain())
        assert rig.proxy.stats.clients_stalled == 1
        assert len(rig.replicas[0].calls) < 500


async def test_answers_are_counted_by_status():
    async with weft(answering(ok())) as rig:
        client = await rig.connect()
        await client.ask(post())
        await client.ask(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        stats = rig.proxy.stats
        assert stats.answers == {200: 1, 404: 1}
        assert (stats.requests_total, stats.connections_total, stats.tries["ok"]) == (2, 1, 1)
