"""Each way in which one of two legs fails, and what the client gets instead."""

import asyncio
import json

import pytest
from legs_rig import ONE_TOKEN, params, prefilled, unless_handed_over
from proxy_rig import ANSWER, BODY, DONE, END, ROLE, STREAM_HEAD, Call, answering, delta, event, ok, post, silence, weft

from router.core.types import Decision, Outcome, ReplicaSpec

OVERLOADED = ok(b'{"error":{"message":"queue is full","code":503}}', status="503 Service Unavailable")
CRASHED = ok(b'{"error":{"message":"EngineCore died","code":500}}', status="500 Internal Server Error")
ABORTED = ok(b'{"choices":[{"index":0,"message":{"content":""},"finish_reason":"abort"}]}')
BAD_REQUEST = ok(b'{"error":{"message":"no tools here","code":400}}', status="400 Bad Request")
FAILED_STREAM = event(b'{"error":{"message":"KV load failed","code":500}}')
GOOD = ok()


async def reset(call: Call) -> None:
    call.reset()


FAILURES = [
    pytest.param(answering(OVERLOADED), Outcome.REJECTED, id="503"),
    pytest.param(answering(ABORTED), Outcome.REJECTED, id="draining: empty and aborted"),
    pytest.param(answering(CRASHED), Outcome.FAILED, id="500"),
    pytest.param(answering(ok(b"oops", status="502 Bad Gateway")), Outcome.FAILED, id="502 that is not JSON"),
    pytest.param(answering(ok(b"later", status="429 Too Many Requests")), Outcome.REJECTED, id="429"),
    pytest.param(answering(ok(b"", status="302 Found")), Outcome.REJECTED, id="a redirection"),
    pytest.param(reset, Outcome.FAILED, id="reset before any byte"),
    pytest.param(answering(GOOD[:60]), Outcome.TIMEOUT, id="half a head, then nothing"),
    pytest.param(answering(GOOD[:-5]), Outcome.TIMEOUT, id="half a body, then nothing"),
    pytest.param(answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), Outcome.FAILED, id="not HTTP"),
    pytest.param(answering(ok(b"x" * 200_000)), Outcome.FAILED, id="an endless answer"),
    pytest.param(silence, Outcome.TIMEOUT, id="accepted and never answered"),
]
LIMITS = {"prefill_timeout_s": 0.2, "prefill_answer_bytes": 100_000}


@pytest.mark.parametrize(("failing", "outcome"), FAILURES)
async def test_another_prefill_replica_is_asked(failing, outcome):
    async with weft(answering(GOOD), prefills=[failing, prefilled()], **LIMITS) as rig:
        assert (await rig.ask(post())).body == ANSWER
        assert rig.dispatcher.legs() == [("prefill-0", outcome), ("prefill-1", Outcome.OK)]
        assert params(rig.replicas[0].calls[0])["remote_request_id"] == "leg-1"
        assert len(rig.replicas[0].calls) == 1
        assert rig.proxy.stats.prefill_legs == {outcome.value: 1, "ok": 1}
        assert rig.proxy.stats.retries == 0


@pytest.mark.parametrize(("failing", "outcome"), FAILURES)
async def test_when_none_is_left_the_decode_replica_computes_the_prompt(failing, outcome):
    async with weft(answering(GOOD), prefills=[failing], **LIMITS) as rig:
        assert (await rig.ask(post())).body == ANSWER
        assert rig.dispatcher.legs() == [("prefill-0", outcome)]
        assert rig.replicas[0].calls[0].body == BODY
        assert rig.proxy.stats.served_whole == {"prefill_failed": 1}
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.OK)]
        assert rig.proxy.stats.stranded == 0


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:1"])
async def test_a_prefill_replica_that_cannot_be_reached(url):
    async with weft(answering(GOOD), prefills=[prefilled()]) as rig:
        rig.dispatcher.prefills.insert(0, ReplicaSpec("nowhere", url))
        assert (await rig.ask(post())).status == 200
        assert rig.dispatcher.legs() == [("nowhere", Outcome.FAILED), ("prefill-0", Outcome.OK)]


async def test_a_kept_connection_to_a_prefill_replica_that_died_unseen_is_replaced():
    good, times = prefilled(), 0

    async def closes_on_the_second(call: Call) -> None:
        nonlocal times
        times += 1
        await (reset if times == 2 else good)(call)

    async with weft(answering(GOOD), prefills=[closes_on_the_second]) as rig:
        client = await rig.connect()
        await client.ask(post())
        await client.ask(post())
        assert rig.dispatcher.legs() == [("prefill-0", Outcome.OK)] * 2
        assert rig.proxy.stats.stale_connections == 1


async def test_an_error_about_the_request_is_the_decode_replica_s_to_tell():
    """A prefill replica may have been started with fewer features, or dislike what makes the leg a leg."""
    async with weft(answering(GOOD), prefills=[answering(BAD_REQUEST), prefilled()]) as rig:
        assert (await rig.ask(post())).body == ANSWER
        assert rig.dispatcher.legs() == [("prefill-0", Outcome.REJECTED)]
        assert rig.replicas[0].calls[0].body == BODY
        assert rig.proxy.stats.served_whole == {"prefill_refused": 1}


async def test_an_error_about_the_request_reaches_the_client_once_and_as_it_is():
    async with weft(answering(BAD_REQUEST), prefills=[answering(BAD_REQUEST)]) as rig:
        answer = await rig.ask(post())
        assert (answer.status, answer.body) == (400, b'{"error":{"message":"no tools here","code":400}}')
        assert len(rig.replicas[0].calls) == len(rig.prefills[0].calls) == 1


async def test_a_prefill_replica_that_keeps_nothing():
    async with weft(answering(GOOD), prefills=[answering(ok(ONE_TOKEN))]) as rig:
        assert (await rig.ask(post())).body == ANSWER
        assert rig.replicas[0].calls[0].body == BODY
        assert rig.proxy.stats.served_whole == {"nothing_handed_over": 1}
        assert rig.dispatcher.legs() == [("prefill-0", Outcome.OK)]


async def test_a_decode_replica_that_takes_no_priorities_leaves_the_blocks_where_they_are():
    """They are asked for once, whatever became of that."""
    refusal = ok(b'{"error":{"message":"Priority scheduling is not enabled.","code":400}}', status="400 Bad Request")

    async def script(call: Call) -> None:
        await answering(GOOD if call.header(b"x-vllm-priority") in (None, b"0") else refusal)(call)

    async with weft(script, prefills=[prefilled()]) as rig:
        route = rig.dispatcher.route

        async def with_priority(request):
            ticket = await route(request)
            ticket.decision = Decision(ticket.decision.replica, 0, priority=5)
            return ticket

        rig.dispatcher.route = with_priority
        assert (await rig.ask(post())).body == ANSWER
        assert rig.replicas[0].calls[-1].body == BODY
        assert rig.proxy.stats.served_whole == {"decode_failed": 1}
        assert rig.proxy.stats.stranded == 1


async def test_a_prefill_replica_that_takes_no_priorities_is_asked_without():
    refusal = ok(b'{"error":{"message":"Priority scheduling is not enabled.","code":400}}', status="400 Bad Request")
    good = prefilled()

    async def script(call: Call) -> None:
        await (good if call.header(b"x-vllm-priority") in (None, b"0") else answering(refusal))(call)

    async with weft(answering(GOOD), prefills=[script]) as rig:
        route = rig.dispatcher.route

        async def with_priority(request):
            ticket = await route(request)
            ticket.prefill.decision = Decision(ticket.prefill.decision.replica, 0, priority=5)
            return ticket

        rig.dispatcher.route = with_priority
        client = await rig.connect()
        for _ in range(2):
            assert (await client.ask(post())).status == 200
        asked = [call.header(b"x-vllm-priority") for call in rig.prefills[0].calls]
        assert asked[:2] == [b"5", b"0"]
        assert len(asked) == 3
        assert rig.proxy.stats.priorities_refused == 1
        assert rig.dispatcher.legs() == [("prefill-0", Outcome.OK)] * 2


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(answering(CRASHED), id="500"),
        pytest.param(answering(STREAM_HEAD, FAILED_STREAM, DONE, END), id="stream: first event is 500"),
        pytest.param(answering(STREAM_HEAD, ROLE, FAILED_STREAM, DONE, END), id="stream: role, then 500"),
    ],
)
async def test_a_decode_replica_that_cannot_fetch_computes_the_prompt_itself(refusal):
    async with weft(unless_handed_over(refusal, answering(GOOD)), prefills=[prefilled()], retry_burst=0) as rig:
        assert (await rig.ask(post())).body == ANSWER
        first, second = rig.replicas[0].calls
        assert params(first) is not None
        assert second.body == BODY
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.OK)]
        assert rig.proxy.stats.served_whole == {"decode_failed": 1}
        assert rig.proxy.stats.stranded == 0


async def test_one_that_cannot_compute_either_is_replaced():
    async with weft(answering(CRASHED), answering(GOOD), prefills=[prefilled()]) as rig:
        assert (await rig.ask(post())).body == ANSWER
        assert len(rig.replicas[0].calls) == 2
        assert await rig.dispatcher.outcomes(2) == [("replica-0", Outcome.FAILED), ("replica-1", Outcome.OK)]
        assert rig.proxy.stats.retries == 1


async def test_when_everything_fails_the_client_sees_one_error():
    async with weft(answering(CRASHED), prefills=[prefilled()]) as rig:
        answer = await rig.ask(post())
        assert answer.status == 500
        assert set(json.loads(answer.body)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("failing", "outcome", "stranded"),
    [
        pytest.param(reset, Outcome.FAILED, 1, id="reset before any byte"),
        pytest.param(silence, Outcome.TIMEOUT, 1, id="never answers"),
        pytest.param(answering(OVERLOADED), Outcome.REJECTED, 0, id="503"),
        pytest.param(answering(ABORTED), Outcome.REJECTED, 0, id="draining"),
    ],
)
async def test_another_decode_replica_gets_a_prompt_of_its_own(failing, outcome, stranded):
    async with weft(failing, answering(GOOD), prefills=[prefilled()], first_byte_timeout_s=0.2) as rig:
        assert (await rig.ask(post())).body == ANSWER
        assert await rig.dispatcher.outcomes(2) == [("replica-0", outcome), ("replica-1", Outcome.OK)]
        told = [params(rig.replicas[index].calls[0])["remote_request_id"] for index in (0, 1)]
        assert told == ["leg-1", "leg-2"]
        assert rig.proxy.stats.stranded == stranded


async def test_a_decode_replica_that_cannot_be_reached_leaves_blocks_behind():
    async with weft(silence, answering(GOOD), prefills=[prefilled()]) as rig:
        rig.dispatcher.specs[0] = ReplicaSpec("nowhere", "http://127.0.0.1:1")
        assert (await rig.ask(post())).status == 200
        assert rig.proxy.stats.stranded == 1
        assert params(rig.replicas[1].calls[0])["remote_request_id"] == "leg-2"


async def test_blocks_are_not_asked_for_again_on_a_new_connection():
    times = 0

    async def closes_on_the_second(call: Call) -> None:
        nonlocal times
        times += 1
        await (reset if times == 2 else answering(GOOD))(call)

    async with weft(closes_on_the_second, prefills=[prefilled()], retry_burst=0) as rig:
        client = await rig.connect()
        await client.ask(post())
        assert (await client.ask(post())).body == ANSWER
        assert rig.replicas[0].calls[2].body == BODY
        assert rig.proxy.stats.stale_connections == 1
        assert await rig.dispatcher.outcomes(2) == [("replica-0", Outcome.OK)] * 2


CHUNK = delta("hello there")


@pytest.mark.parametrize("cut", range(0, len(CHUNK) + 1, 5))
async def test_wherever_a_corrected_stream_breaks_the_client_gets_an_error_and_a_clean_end(cut):
    async def breaks(call: Call) -> None:
        call.send(STREAM_HEAD + delta("hi") + CHUNK[:cut])
        call.close()

    async with weft(breaks, prefills=[prefilled()]) as rig:
        client = await rig.connect()
        answer = await client.ask(post())
        *_, error, done, rest = answer.body.split(b"\n\n")
        assert json.loads(error.strip().removeprefix(b"data: "))["error"]["message"]
        assert (done, rest) == (b"data: [DONE]", b"")
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.FAILED)]


async def test_a_client_that_leaves_while_its_prompt_is_computed():
    async with weft(answering(GOOD), prefills=[silence]) as rig:
        client = await rig.connect()
        client.send(post())
        call = await rig.prefills[0].next_call()
        client.leave()
        await call.gone()
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.CLIENT_GONE)]
        assert rig.dispatcher.legs() == [("prefill-0", Outcome.CLIENT_GONE)]
        assert not rig.replicas[0].calls
        assert rig.proxy.stats.stranded == 0
        assert rig.proxy.stats.clients_gone == 1


async def test_a_client_that_leaves_between_the_legs():
    async with weft(silence, prefills=[prefilled()]) as rig:
        pool = rig.proxy.pools.of(rig.replicas[0].url)
        connecting = asyncio.Event()

        async def connect():
            connecting.set()
            await asyncio.Event().wait()

        pool.connect = connect
        client = await rig.connect()
        client.send(post())
        await connecting.wait()
        client.leave()
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.CLIENT_GONE)]
        assert rig.proxy.stats.stranded == 1


async def test_a_client_that_leaves_while_it_is_answered():
    async with weft(silence, prefills=[prefilled()]) as rig:
        client = await rig.connect()
        client.send(post())
        call = await rig.replicas[0].next_call()
        client.leave()
        await call.gone()
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.CLIENT_GONE)]
        assert rig.proxy.stats.stranded == 0


@pytest.mark.parametrize("connector", ["nixl", "sglang", "shared-storage"])
@pytest.mark.parametrize("turns", range(0, 80, 4))
async def test_whenever_a_client_leaves_each_leg_ends_once_and_nothing_is_left(turns, connector):
    streaming = answering(STREAM_HEAD, ROLE, delta("a"), delta("b"), DONE, END)
    legs = [answering(CRASHED), prefilled()]
    async with weft(answering(CRASHED), streaming, prefills=legs, connector=connector) as rig:
        client = await rig.connect()
        client.send(post())
        for _ in range(turns):
            await asyncio.sleep(0)
        client.leave()
