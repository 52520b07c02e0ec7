"""Legs that go out at once, as SGLang wants them: the engines meet by themselves, the router only watches."""

import asyncio
import json

import pytest
from legs_rig import usage
from proxy_rig import ANSWER, DONE, END, ROLE, STREAM_HEAD, Call, answering, delta, ok, post, silence, weft, within

from router.core.types import Outcome, ReplicaSpec, Usage

PREFILLED = ok(b'{"choices":[{"text":"h","finish_reason":"length"}],"usage":' + usage(64) + b"}")
CRASHED = ok(b'{"error":{"message":"no","code":500}}', status="500 Internal Server Error")
NO_ROOM = ok(b'{"error":{"message":"without bootstrap room id","code":400}}', status="400 Bad Request")
STREAM = (STREAM_HEAD, ROLE, delta("hi"), DONE, END)


def room(call: Call) -> int:
    return json.loads(call.body)["bootstrap_room"]


async def reset(call: Call) -> None:
    call.reset()


async def test_both_are_asked_before_either_answers():
    async with weft(silence, prefills=[silence], connector="sglang") as rig:
        client = await rig.connect()
        client.send(post())
        first, second = await rig.prefills[0].next_call(), await rig.replicas[0].next_call()
        assert room(first) == room(second)
        assert first.header(b"x-request-id") == second.header(b"x-request-id")
        first.send(PREFILLED)
        second.send(ok())
        assert (await client.answer()).body == ANSWER
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.OK)]
        assert rig.dispatcher.leg_ends == [("prefill-0", Outcome.OK, Usage(1000, 64, 2))]


async def test_an_answer_that_is_over_before_the_prefill_replica_has_said_so():
    async with weft(answering(*STREAM), prefills=[silence], connector="sglang") as rig:
        answer = await rig.ask(post())
        assert answer.body.endswith(b"[DONE]\n\n")
        await rig.prefills[0].calls[0].gone()
        assert rig.dispatcher.legs() == [("prefill-0", Outcome.OK)]


@pytest.mark.parametrize(
    ("failing", "outcome"),
    [
        pytest.param(answering(CRASHED), Outcome.FAILED, id="500"),
        pytest.param(reset, Outcome.FAILED, id="reset"),
        pytest.param(silence, Outcome.TIMEOUT, id="never answers"),
    ],
)
async def test_both_are_asked_again_in_a_new_room_when_the_prefill_replica_fails(failing, outcome):
    async def meets(call: Call) -> None:
        if len(rig.replicas[0].calls) == 2:
            call.send(ok())

    prefills = [failing, answering(PREFILLED)]
    async with weft(meets, prefills=prefills, connector="sglang", prefill_timeout_s=0.2) as rig:
        assert (await rig.ask(post())).body == ANSWER
        first, second = rig.replicas[0].calls
        await first.gone()
        assert room(first) == room(rig.prefills[0].calls[0])
        assert room(second) == room(rig.prefills[1].calls[0]) != room(first)
        assert rig.dispatcher.legs() == [("prefill-0", outcome), ("prefill-1", Outcome.OK)]
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.OK)]


async def test_when_no_prefill_replica_is_left_nobody_can_answer():
    async with weft(silence, prefills=[answering(CRASHED)], connector="sglang") as rig:
        answer = await rig.ask(post())
        assert answer.status == 503
        assert answer.headers[b"retry-after"] == b"1"
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.REJECTED)]
        assert rig.proxy.stats.served_whole == {"prefill_failed": 1}


async def test_a_prefill_replica_that_cannot_be_reached():
    async with weft(answering(*STREAM), prefills=[answering(PREFILLED)], connector="sglang") as rig:
        rig.dispatcher.prefills.insert(0, ReplicaSpec("nowhere", "http://127.0.0.1:1"))
        assert (await rig.ask(post())).status == 200


async def test_a_request_that_both_refuse_is_refused():
    async with weft(answering(NO_ROOM), prefills=[answering(NO_ROOM)], connector="sglang") as rig:
        answer = await rig.ask(post())
        assert answer.status == 400
        assert b"bootstrap room" in answer.body
        assert rig.proxy.stats.retries == 0


async def test_a_decode_replica_that_fails_stops_the_prefill_replica_too():
    async with weft(answering(CRASHED), answering(*STREAM), prefills=[silence], connector="sglang") as rig:
        assert (await rig.ask(post())).status == 200
        first, second = rig.prefills[0].calls
        await first.gone()
        assert room(first) != room(second)
        assert rig.dispatcher.legs() == [("prefill-0", Outcome.CLIENT_GONE), ("prefill-0", Outcome.OK)]


async def test_a_prefill_replica_that_fails_when_the_answer_has_begun_is_not_missed():
    begun = asyncio.Event()

    async def fails_late(call: Call) -> None:
        await begun.wait()
        call.send(CRASHED)

    async def answers(call: Call) -> None:
        call.send(STREAM_HEAD + ROLE + delta("hi"))
        await within(rest.wait())
        call.send(DONE + END)

    rest = asyncio.Event()
    async with weft(answers, prefills=[fails_late], connector="sglang") as rig:
        client = await rig.connect()
        client.send(post())
        await client.head()
        begun.set()
        while not rig.dispatcher.leg_ends:
            await asyncio.sleep(0.001)
        rest.set()
        assert (await client.reader.readuntil(b"0\r\n\r\n")).endswith(b"[DONE]\n\n\r\n0\r\n\r\n")
        assert rig.dispatcher.legs() == [("prefill-0", Outcome.FAILED)]
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.OK)]


async def test_a_client_that_leaves_stops_both():
    async with weft(silence, prefills=[silence], connector="sglang") as rig:
        client = await rig.connect()
        client.send(post())
        calls = await rig.prefills[0].next_call(), await rig.replicas[0].next_call()
        client.leave()
        for call in calls:
            await call.gone()
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.CLIENT_GONE)]
        assert rig.dispatcher.legs() == [("prefill-0", Outcome.CLIENT_GONE)]
        assert rig.proxy.stats.stranded == 0
