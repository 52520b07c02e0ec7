"""Requests that wait in the router: each holds its own stream and nobody else's, and leaves with it."""

import asyncio

import pytest
from extproc_rig import (
    OneAtATime,
    Pod,
    bare,
    chat,
    log_entry,
    log_message,
    request_body,
    request_headers,
    serving,
    until,
)


def named(request_id, **headers):
    return {"content-type": "application/json", "x-request-id": request_id} | headers


async def held(gateway, request_id="held", text="hello", **headers):
    """A call that waits behind another one."""
    first = await gateway.post(headers={"x-request-id": "first"})
    call = gateway.open()
    await call.send(request_headers(named(request_id, **headers)), request_body(chat(text)))
    await until(lambda: gateway.rig.router.waiting == 1)
    return first, call


async def end(gateway, request_id, endpoint="10.0.0.1:8000"):
    log = gateway.open_log()
    await log.write(log_message(log_entry(request_id, endpoint=endpoint)))
    await until(lambda: gateway.rig.stats.logged["ok"] > 0)
    return log


async def test_a_held_request_goes_when_there_is_room():
    async with serving(Pod(), gate=OneAtATime()) as gateway:
        _, call = await held(gateway)
        await end(gateway, "first")
        assert (await call.next()).endpoint == "10.0.0.1:8000"
        assert [told.kind for told in await call.rest()] == ["request_body"]
        assert gateway.rig.in_flight == 1


async def test_the_replica_is_chosen_when_the_request_leaves():
    async with serving(Pod(), Pod(), gate=OneAtATime()) as gateway:
        first = await gateway.post(headers={"x-request-id": "first"})
        second = await gateway.post(headers={"x-request-id": "second"})
        assert {first.endpoint, second.endpoint} == {"10.0.0.1:8000", "10.0.0.2:8000"}
        call = gateway.open()
        await call.send(request_headers(named("third")), request_body(chat()))
        await until(lambda: gateway.rig.router.waiting == 1)
        await end(gateway, "second", second.endpoint)
        assert (await call.next()).endpoint == second.endpoint


async def test_who_waited_and_only_wants_what_is_cached_is_412():
    async with serving(Pod(), gate=OneAtATime()) as gateway:
        _, call = await held(gateway, text="another prompt " * 40, prefer="if-available")
        await end(gateway, "first")
        assert (await call.next()).refusal[0] == 412
        assert gateway.rig.in_flight == 0


async def test_a_held_request_holds_no_other_stream():
    async with serving(Pod(), Pod(models=("free",)), gate=OneAtATime()) as gateway:
        _, call = await held(gateway)
        told = await gateway.post(chat(model="free"), {"x-request-id": "other"})
        assert told.endpoint == "10.0.0.2:8000"
        assert gateway.rig.router.waiting == 1
        call.cancel()


async def test_a_stream_that_goes_away_takes_its_request_out_of_the_queue():
    async with serving(Pod(), gate=OneAtATime()) as gateway:
        _, call = await held(gateway)
        call.cancel()
        await until(lambda: gateway.rig.router.waiting == 0)
        assert (gateway.rig.in_flight, gateway.rig.router.stats.withdrawn, gateway.rig.stats.gone) == (1, 1, 1)


async def test_a_gateway_that_says_nothing_more_still_gets_its_answer():
    async with serving(Pod(), gate=OneAtATime()) as gateway:
        _, call = await held(gateway)
        await call.close()
        await asyncio.sleep(0.05)
        assert gateway.rig.router.waiting == 1
        await end(gateway, "first")
        assert [told.kind for told in await call.rest()] == ["request_headers", "request_body"]


async def test_an_answer_of_envoys_own_ends_the_wait():
    async with serving(Pod(), gate=OneAtATime()) as gateway:
        _, call = await held(gateway)
        await call.send(bare("response_headers"))
        assert [told.kind for told in await call.rest()] == ["response_headers"]
        assert (gateway.rig.router.waiting, gateway.rig.stats.gone) == (0, 1)


@pytest.mark.parametrize(
    ("queue", "reason"),
    [
        ({"max_waiting": 0}, "rejected-saturated"),
        ({"max_waiting_per_tenant": 0}, "rejected-saturated"),
        ({"max_wait_s": 0.05}, "rejected-ttl-expired"),
    ],
    ids=["queue full", "tenant's share full", "waited too long"],
)
async def test_a_saturated_pool_is_429_with_the_reason(queue, reason):
    async with serving(Pod(), gate=OneAtATime(), queue=queue) as gateway:
        await gateway.post(headers={"x-request-id": "first"})
        status, headers, error = (await gateway.post(headers={"x-request-id": "second"})).refusal
        assert (status, headers["x-llm-d-request-dropped-reason"]) == (429, reason)
        assert error["type"] == "rate_limit_error"
        assert gateway.rig.router.waiting == 0


async def test_who_waits_at_shutdown_is_503():
    async with serving(Pod(), gate=OneAtATime()) as gateway:
        _, call = await held(gateway)
        gateway.rig.dispatcher.drain()
        status, headers, _ = (await call.next()).refusal
        assert (status, headers["x-llm-d-request-dropped-reason"]) == (503, "rejected-shutting-down")


async def test_a_queue_with_priorities_tells_the_engine():
    async with serving(Pod(), queue={"order": "critical-path"}, programs={"enabled": True}) as gateway:
        told = await gateway.post(headers={"x-program-id": "p", "x-vllm-priority": "-100"})
        assert int(told.set["x-vllm-priority"]) >= 0, "the client's own is gone"
        assert told.removed == ["x-program-id"]


async def test_a_priority_in_the_body_that_nobody_granted_is_silenced():
    async with serving(Pod()) as gateway:
        assert (await gateway.post(chat(priority=-100))).set["x-vllm-priority"] == "0"
        assert "x-vllm-priority" not in (await gateway.post()).set
