"""Each way in which a vLLM replica fails, and what its client gets instead."""

import asyncio
import json
import socket

import pytest
from proxy_rig import (
    ANSWER,
    DONE,
    END,
    ROLE,
    STREAM_HEAD,
    Call,
    answering,
    delta,
    event,
    ok,
    post,
    silence,
    weft,
)

from router.core.types import Outcome, ReplicaSpec

OVERLOADED = ok(
    b'{"error":{"message":"queue is full","type":"ServiceUnavailable","param":null,"code":503}}',
    status="503 Service Unavailable",
)
CRASHED = ok(
    b'{"error":{"message":"EngineCore died","type":"InternalServerError","param":null,"code":500}}',
    status="500 Internal Server Error",
)
ABORTED = ok(b'{"choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"abort"}]}')
ERROR_503 = event(b'{"error":{"message":"queue is full","type":"ServiceUnavailable","code":503}}')
ERROR_500 = event(b'{"error":{"message":"EngineCore died","type":"InternalServerError","code":500}}')
GOOD = ok()
GOOD_STREAM = [STREAM_HEAD, ROLE + delta("hi"), delta("", "stop"), DONE, END]


async def reset(call: Call) -> None:
    call.reset()


@pytest.mark.parametrize(
    ("failing", "outcome"),
    [
        pytest.param(answering(OVERLOADED), Outcome.REJECTED, id="503 without Retry-After"),
        pytest.param(answering(STREAM_HEAD, ERROR_503, DONE, END), Outcome.REJECTED, id="stream: first event is 503"),
        pytest.param(answering(STREAM_HEAD, ERROR_500, DONE, END), Outcome.FAILED, id="stream: first event is 500"),
        pytest.param(answering(STREAM_HEAD, ROLE, ERROR_500, DONE, END), Outcome.FAILED, id="stream: role, then error"),
        pytest.param(answering(ABORTED), Outcome.REJECTED, id="draining: empty and aborted"),
        pytest.param(
            answering(STREAM_HEAD, ROLE, delta("", "abort"), DONE, END),
            Outcome.REJECTED,
            id="draining: stream, role only and aborted",
        ),
        pytest.param(
            answering(STREAM_HEAD, event(b'{"choices":[{"index":0,"text":"","finish_reason":"abort"}]}'), DONE, END),
            Outcome.REJECTED,
            id="draining: completions stream, empty and aborted",
        ),
        pytest.param(answering(CRASHED), Outcome.FAILED, id="500: the engine died under its server"),
        pytest.param(answering(ok(b"oops", status="502 Bad Gateway")), Outcome.FAILED, id="502 that is not JSON"),
        pytest.param(reset, Outcome.FAILED, id="reset before any byte"),
        pytest.param(answering(b"HTTP/1.1 200 OK\r\ncontent-le"), Outcome.TIMEOUT, id="half a head, then nothing"),
        pytest.param(answering(STREAM_HEAD), Outcome.TIMEOUT, id="a head, then nothing"),
        pytest.param(answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), Outcome.FAILED, id="not HTTP"),
        pytest.param(answering(STREAM_HEAD, b"zz\r\n"), Outcome.FAILED, id="bad chunk before the first event"),
        pytest.param(answering(STREAM_HEAD, ROLE), Outcome.TIMEOUT, id="a role, then nothing"),
        pytest.param(answering(ok(b"x" * 200_000, status="500 Down")), Outcome.FAILED, id="500 with a long story"),
        pytest.param(answering(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000), Outcome.FAILED, id="an endless head"),
        pytest.param(silence, Outcome.TIMEOUT, id="accepted and never answered"),
    ],
)
async def test_another_replica_is_asked_while_the_client_has_seen_nothing(failing, outcome):
    async with weft(failing, answering(GOOD), first_byte_timeout_s=0.2, stream_idle_timeout_s=0.2) as rig:
        answer = await rig.ask(post())
        assert (answer.status, answer.body) == (200, ANSWER)
        assert answer.headers[b"x-weft-replica"] == b"replica-1"
        assert await rig.dispatcher.outcomes(2) == [("replica-0", outcome), ("replica-1", Outcome.OK)]
        assert rig.dispatcher.started == ["replica-1"]
        assert rig.replicas[1].calls[0].body == rig.replicas[0].calls[0].body
        assert rig.proxy.stats.retries == 1


async def test_a_replica_that_refuses_connections_is_replaced():
    async with weft(silence, answering(GOOD)) as rig:
        rig.replicas[0].server.close()
        await rig.replicas[0].server.wait_closed()
        answer = await rig.ask(post())
        assert answer.status == 200
        assert await rig.dispatcher.outcomes(2) == [("replica-0", Outcome.FAILED), ("replica-1", Outcome.OK)]
        assert rig.proxy.stats.connect_failures == 1


@pytest.mark.parametrize("url", ["nonsense", "http://a..b:80", "http://127.0.0.1:1"])
async def test_a_replica_whose_url_leads_nowhere_is_replaced(url):
    async with weft(silence, answering(GOOD)) as rig:
        rig.dispatcher.specs[0] = ReplicaSpec(name="nowhere", url=url)
        assert (await rig.ask(post())).status == 200
        assert await rig.dispatcher.outcomes(2) == [("nowhere", Outcome.FAILED), ("replica-1", Outcome.OK)]


async def test_when_all_are_overloaded_the_client_is_told_to_come_back():
    async with weft(answering(OVERLOADED), answering(STREAM_HEAD, ERROR_503, DONE, END), answering(ABORTED)) as rig:
        answer = await rig.ask(post())
        assert answer.status == 503
        assert answer.headers[b"retry-after"] == b"1"
        error = json.loads(answer.body)["error"]
        assert (error["type"], error["code"]) == ("service_unavailable", "overloaded")
        assert set(error) == {"message", "type", "param", "code"}
        assert {outcome for _, outcome in await rig.dispatcher.outcomes(3)} == {Outcome.REJECTED}


async def test_when_no_replica_is_left_the_client_sees_why_the_last_one_failed():
    async with weft(answering(CRASHED)) as rig:
        answer = await rig.ask(post())
        assert answer.status == 500
        assert json.loads(answer.body)["error"]["message"] == "EngineCore died"
        assert b"retry-after" not in answer.headers


async def test_a_silent_fleet_is_a_gateway_timeout():
    async with weft(silence, silence, first_byte_timeout_s=0.02) as rig:
        answer = await rig.ask(post())
        assert answer.status == 504
        assert len(await rig.dispatcher.outcomes(2)) == 2


async def test_a_connection_that_cannot_be_made_in_time_counts_as_a_timeout():
    with socket.socket() as full, socket.socket() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting.connect(full.getsockname())
        async with weft(silence, answering(GOOD), connect_timeout_s=0.2) as rig:
            rig.dispatcher.specs[0] = ReplicaSpec(name="full", url=f"http://127.0.0.1:{full.getsockname()[1]}")
            assert (await rig.ask(post())).status == 200
            assert (await rig.dispatcher.outcomes(2))[0] == ("full", Outcome.TIMEOUT)


async def test_no_more_replicas_are_asked_than_allowed():
    async with weft(*[answering(CRASHED)] * 4, max_tries=2) as rig:
        assert (await rig.ask(post())).status == 500
        assert len(await rig.dispatcher.outcomes(2)) == 2
        assert sum(len(replica.calls) for replica in rig.replicas) == 2


async def test_retries_stay_within_their_budget():
    async with weft(answering(CRASHED), answering(CRASHED), max_tries=2, retry_share=0.0, retry_burst=1) as rig:
        client = await rig.connect()
        for _ in range(3):
            assert (await client.ask(post())).status == 500
        assert len(await rig.dispatcher.outcomes(4)) == 4
        assert rig.proxy.stats.retries == 1
        assert rig.proxy.stats.retries_denied == 2


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "422 Unprocessable", "429 Too Many Requests"])
async def test_what_is_the_clients_fault_is_passed_on_as_it_is(status):
    body = b'{"error":{"message":"no","type":"BadRequestError","param":"x","code":400}}'
    async with weft(answering(ok(body, status=status, extra="retry-after: 9\r\n")), answering(GOOD)) as rig:
        answer = await rig.ask(post())
        assert (answer.head.split(b"\r\n")[0], answer.body) == (b"HTTP/1.1 " + status.encode(), body)
        assert answer.headers[b"retry-after"] == b"9"
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.OK)]


async def test_an_error_event_about_the_request_itself_is_passed_on():
    error = event(b'{"error":{"message":"too long","type":"BadRequestError","code":400}}')
    async with weft(answering(STREAM_HEAD, error, DONE, END), answering(GOOD)) as rig:
        answer = await rig.ask(post())
        assert b"too long" in answer.body
        assert len(rig.replicas[1].calls) == 0


async def test_an_answer_that_was_aborted_after_some_text_is_passed_on():
    body = b'{"choices":[{"index":0,"text":"half an ans","finish_reason":"abort"}]}'
    async with weft(answering(ok(body)), answering(GOOD)) as rig:
        assert (await rig.ask(post())).body == body


async def test_a_stream_that_ends_in_an_error_is_passed_on_and_counts_as_failed():
    async with weft(answering(STREAM_HEAD, delta("hi"), ERROR_500, DONE, END)) as rig:
        answer = await rig.ask(post())
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert answer.body.count(b"EngineCore died") == 1
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.FAILED)]


async def test_a_stream_that_hangs_open_ends_with_an_error_event():
    async with weft(answering(STREAM_HEAD, delta("hi")), stream_idle_timeout_s=0.05) as rig:
        client = await rig.connect()
        answer = await client.ask(post())
        events = answer.body.split(b"\n\n")
        assert json.loads(events[-3].removeprefix(b"data: "))["error"]["type"] == "upstream_error"
        assert events[-2:] == [b"data: [DONE]", b""]
        await rig.replicas[0].calls[0].gone()
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.TIMEOUT)]
        assert (await client.ask(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")).status == 200


CHUNK = delta("hello there")


@pytest.mark.parametrize("cut", range(len(CHUNK) + 1))
async def test_wherever_a_stream_breaks_the_client_gets_an_error_and_a_clean_end(cut):
    async def breaks(call: Call) -> None:
        call.send(STREAM_HEAD + delta("hi") + CHUNK[:cut])
        call.close()

    async with weft(breaks) as rig:
        answer = await rig.ask(post())
        assert answer.body.startswith(b'data: {"object"')
        *_, error, done, rest = answer.body.split(b"\n\n")
        assert json.loads(error.strip().removeprefix(b"data: "))["error"]["message"]
        assert (done, rest) == (b"data: [DONE]", b"")
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.FAILED)]
        assert rig.proxy.stats.broken_off == 1


async def test_anthropic_clients_get_the_error_event_that_they_know():
    async def breaks(call: Call) -> None:
        call.send(STREAM_HEAD + event(b'{"type":"content_block_delta","delta":{"text":"hi"}}'))
        call.reset()

    async with weft(breaks) as rig:
        answer = await rig.ask(post(path="/v1/messages"))
        name, data = answer.body.split(b"\n\n")[-2].split(b"\n")
        assert name == b"event: error"
        assert json.loads(data.removeprefix(b"data: "))["type"] == "error"
        assert b"[DONE]" not in answer.body


async def test_a_plain_body_that_breaks_off_resets_the_client():
    head_seen = asyncio.Event()

    async def breaks(call: Call) -> None:
        call.send(ok(b"x" * 100_000)[:90_000])
        await head_seen.wait()
        call.close()

    async with weft(breaks) as rig:
        client = await rig.connect()
        client.send(post())
        await client.head()
        head_seen.set()
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.FAILED)]


async def test_garbage_in_the_middle_of_a_stream_resets_the_client():
    head_seen = asyncio.Event()

    async def talks_nonsense(call: Call) -> None:
        call.send(STREAM_HEAD + delta("hi"))
        await head_seen.wait()
        call.send(delta("lost with the piece that is wrong") + b"this is no chunk\r\n")

    async with weft(talks_nonsense) as rig:
        client = await rig.connect()
        client.send(post())
        await client.head()
        head_seen.set()
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.FAILED)]


async def test_a_kept_connection_that_died_unseen_is_replaced_once_at_no_cost():
    calls = 0

    async def closes_on_the_second(call: Call) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            call.close()
        else:
            call.send(GOOD)

    async with weft(closes_on_the_second, retry_burst=0) as rig:
        client = await rig.connect()
        assert (await client.ask(post())).status == 200
        assert (await client.ask(post())).status == 200
        assert rig.proxy.stats.stale_connections == 1
        assert rig.proxy.stats.retries == 0
        assert await rig.dispatcher.outcomes(2) == [("replica-0", Outcome.OK)] * 2


async def test_a_fresh_connection_that_dies_is_not_taken_for_a_stale_one():
    async with weft(reset, retry_burst=0) as rig:
        assert (await rig.ask(post())).status == 502
        assert len(rig.replicas[0].calls) == 1


async def test_an_idle_connection_closed_by_the_replica_is_not_used_again():
    async with weft(answering(GOOD)) as rig:
        client = await rig.connect()
        await client.ask(post())
        rig.replicas[0].connections[0].transport.close()
        await rig.replicas[0].calls[0].gone()
        assert (await client.ask(post())).status == 200
        assert rig.proxy.stats.stale_connections == 0
        assert len(rig.replicas[0].connections) == 2
