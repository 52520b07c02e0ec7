"""What a replica is told of priorities: the router's, never a stranger's, and none if it does not take them."""

from dataclasses import replace

import pytest
from proxy_rig import END, ROLE, STREAM_HEAD, Call, answering, delta, ok, post, weft, within

from router.core.types import Outcome

REFUSAL = b'{"error":{"message":"Got priority 5 but Priority scheduling is not enabled.","type":"BadRequestError"}}'


def prioritised(rig, priority, **request):
    """Gives all that is routed from now on a priority."""
    route = rig.dispatcher.route

    async def with_priority(asked):
        ticket = await route(replace(asked, **request))
        ticket.decision = replace(ticket.decision, priority=priority)
        return ticket

    rig.dispatcher.route = with_priority


def refusing(body=REFUSAL):
    """Answers a priority with an error and everything else with an answer."""

    async def script(call: Call) -> None:
        said = call.header(b"x-vllm-priority")
        call.send(ok(body, status="400 Bad Request") if said not in (None, b"0") else ok())

    return script


def said(rig, replica=0):
    return [call.header(b"x-vllm-priority") for call in rig.replicas[replica].calls]


@pytest.mark.parametrize("priority", [5, -3, 0])
async def test_the_router_s_priority_is_sent(priority):
    async with weft(answering(ok())) as rig:
        prioritised(rig, priority)
        assert (await rig.ask(post())).status == 200
        assert said(rig) == [b"%d" % priority]


@pytest.mark.parametrize("name", ["X-Vllm-Priority", "x-vllm-priority"])
async def test_a_client_s_header_goes_no_further(name):
    async with weft(answering(ok())) as rig:
        await rig.ask(post(extra=f"{name}: -100\r\n"))
        assert said(rig) == [None]
        prioritised(rig, 5)
        await rig.ask(post(extra=f"{name}: -100\r\n{name}: -7\r\n"))
        call = rig.replicas[0].calls[-1]
        assert [value for key, value in call.headers if key == b"x-vllm-priority"] == [b"5"]


async def test_what_a_body_says_is_overruled():
    async with weft(answering(ok())) as rig:
        prioritised(rig, None, says_priority=True)
        await rig.ask(post())
        assert said(rig) == [b"0"]


async def test_a_replica_that_refuses_a_priority_is_asked_again_without_and_never_told_one_again():
    async with weft(refusing()) as rig:
        prioritised(rig, 5)
        assert (await rig.ask(post())).status == 200
        assert (await rig.ask(post())).status == 200
        assert said(rig) == [b"5", b"0", None]
        assert await rig.dispatcher.outcomes(2) == [("replica-0", Outcome.OK)] * 2
        assert (rig.proxy.stats.priorities_refused, rig.proxy.stats.retries) == (1, 0)


async def test_others_are_told_theirs():
    async with weft(refusing(), answering(ok())) as rig:
        prioritised(rig, 5)
        for _ in range(4):
            await rig.ask(post())
        assert (said(rig, 0), said(rig, 1)) == ([b"5", b"0", None], [b"5", b"5"])


async def test_one_that_comes_back_is_told_again():
    async with weft(refusing()) as rig:
        prioritised(rig, 5)
        await rig.ask(post())
        rig.proxy.priorities.forget("replica-0")
        await rig.ask(post())
        assert said(rig) == [b"5", b"0", b"5", b"0"]


async def test_another_fault_of_a_request_is_the_client_s_to_see():
    body = b'{"error":{"message":"max_tokens must be at least 1"}}'
    async with weft(refusing(body)) as rig:
        prioritised(rig, 5)
        answer = await rig.ask(post())
        assert (answer.status, answer.body, said(rig)) == (400, body, [b"5"])


async def test_a_client_cannot_make_a_replica_look_like_one_that_refuses():
    body = b'{"error":{"message":"unknown tool: Priority scheduling is not enabled"}}'
    async with weft(answering(ok(body, status="400 Bad Request"))) as rig:
        prioritised(rig, 5)
        answer = await rig.ask(post())
        assert (answer.status, answer.body) == (400, body)
        await rig.ask(post())
        assert said(rig) == [b"5", b"0", b"5", b"0"]
        assert rig.proxy.stats.priorities_refused == 0


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_answer_that_is_too_long_to_be_held_is_judged_by_its_beginning(chunked):
    async def script(call: Call) -> None:
        if call.header(b"x-vllm-priority") == b"0":
            call.send(STREAM_HEAD + ROLE + delta("hi") + END)
            return
        long = REFUSAL + b" " * 4000
        head = ok(b"", status="400 Bad Request").replace(b"content-length: 0", b"transfer-encoding: chunked")
        call.send(head + b"%x\r\n" % len(long) + long if chunked else ok(long, status="400 Bad Request"))

    async with weft(script, hold_bytes=1000) as rig:
        prioritised(rig, 5)
        answer = await rig.ask(post())
        assert answer.status == 200
        assert b"hi" in answer.body


async def test_a_client_that_leaves_between_the_two_askings_is_gone():
    async def script(call: Call) -> None:
        if call.header(b"x-vllm-priority") == b"5":
            call.send(ok(REFUSAL, status="400 Bad Request"))

    async with weft(script) as rig:
        prioritised(rig, 5)
        client = await rig.connect()
        client.send(post())
        while len(rig.replicas[0].calls) < 2:
            await rig.replicas[0].next_call()
        client.leave()
        await within(rig.replicas[0].calls[1].gone())
        assert await rig.dispatcher.outcomes(1) == [("replica-0", Outcome.CLIENT_GONE)]
