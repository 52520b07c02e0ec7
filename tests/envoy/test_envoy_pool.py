"""Weft behind a real Envoy, before simulated replicas."""

import asyncio
import json
import resource

import aiohttp
import pytest
from envoy_rig import WAYS, pool, until

from sim.replica.faults import FaultKind

LONG = "The shuttle carries the weft across the warp. " * 40
MIB = 1 << 20


async def next_event(answer):
    """The next line of data that a stream brings; None at its end."""
    async for line in answer.content:
        if line.startswith(b"data: "):
            return line.removeprefix(b"data: ").strip()
    return None


async def rest_of(answer):
    events = []
    while (event := await next_event(answer)) is not None:
        events.append(event)
    return events


@pytest.mark.parametrize("way", [*WAYS, "anywhere"])
async def test_a_prompt_goes_where_its_prefix_is(envoy, way):
    async with pool(envoy, count=4) as world:
        first = await world.chat(LONG + "1", way)
        assert first.status == 200
        later = [await world.chat(f"{LONG}{turn}", way) for turn in range(2, 6)]
        assert {said.replica for said in later} == {first.replica}
        assert first.replica in {replica.url.removeprefix("http://") for replica in world.replicas}
        await world.idle()


@pytest.mark.parametrize("way", WAYS)
async def test_a_large_body_passes_whole(envoy, way):
    async with pool(envoy) as world:
        said = await world.chat("hello", way, metadata={"padding": "x" * 12 * MIB})
        assert said.status == 200
        assert said.body["choices"][0]["message"]["content"]


async def test_streamed_bodies_reach_a_replica_whole_and_their_streams_end(envoy):
    async with pool(envoy) as world:
        said = await asyncio.gather(*(world.chat(f"{turn} {LONG}", "streamed") for turn in range(50)))
        assert {each.status for each in said} == {200}
        await world.idle()
        await until(lambda: world.app.picking.stats.streams_open == 0)


async def test_a_mode_in_which_envoy_sends_bodies_twice_is_refused(envoy):
    async with pool(envoy) as world:
        said = await world.chat("hello", "early")
        assert (said.status, said.body["error"]["code"]) == (500, "body_mode")


async def test_too_large_a_body_is_refused(envoy):
    async with pool(envoy) as world:
        said = await world.chat("hello", metadata={"padding": "x" * 65 * MIB})
        assert said.status == 413
        assert said.body["error"]["message"] == "Payload Too Large"


@pytest.mark.parametrize("way", WAYS)
async def test_streams_pass_as_they_come(envoy, way):
    async with pool(envoy) as world:
        async with world.stream("hello", way, max_tokens=200) as answer:
            assert await next_event(answer)
            world.fault(FaultKind.HANG)
            assert not answer.content.at_eof(), "it was held back until it was complete"
            world.fault(FaultKind.NONE)
            assert (await rest_of(answer))[-1] == b"[DONE]"
        await world.idle()


async def test_an_answer_is_explained_when_it_is_asked_for(envoy):
    async with pool(envoy) as world:
        told = await world.chat("hello", headers={"x-weft-explain": "1"})
        assert json.loads(told.headers["x-weft-explain"])
        plain = await world.chat("hello")
        assert "x-weft-explain" not in plain.headers


async def test_the_clients_request_id_is_kept(envoy):
    async with pool(envoy) as world:
        said = await world.chat("hello", headers={"x-request-id": "mine"})
        assert said.headers["x-request-id"] == "mine"
        await world.idle()


async def test_weft_refuses_with_its_own_words(envoy):
    async with pool(envoy) as world:
        said = await world.chat("hello", model="unknown")
        assert (said.status, said.body["error"]["code"]) == (404, "model_not_found")


async def test_paths_without_a_body_reach_a_replica(envoy):
    async with pool(envoy) as world, world.client.get(envoy.urls["buffered"] + "/version") as answer:
        assert answer.status == 200
        assert "version" in await answer.json()


@pytest.mark.parametrize("way", WAYS)
async def test_a_replica_that_cannot_be_reached_is_passed_over(envoy, way):
    async with pool(envoy, count=3) as world:
        retries = await envoy.counter("cluster.replicas.upstream_rq_retry_success")
        lost = world.replicas[0]
        await world.lose(lost)
        said = await asyncio.gather(*(world.chat(f"{turn} {LONG}", way) for turn in range(9)))
        assert {each.status for each in said} == {200}
        assert lost.url.removeprefix("http://") not in {each.replica for each in said}
        assert await envoy.counter("cluster.replicas.upstream_rq_retry_success") > retries
        await world.idle()


async def test_a_replica_that_takes_nothing_more_is_passed_over(envoy):
    async with pool(envoy) as world:
        full, other = world.replicas
        full.condition.refuses = True
        said = await asyncio.gather(*(world.chat(f"{turn} {LONG}") for turn in range(8)))
        assert {each.status for each in said} == {200}
        assert {each.replica for each in said} == {other.url.removeprefix("http://")}
        await world.idle()


async def test_a_replica_that_dies_in_an_answer_ends_it_short(envoy):
    async with pool(envoy, count=1) as world:
        async with world.stream("hello", max_tokens=2000) as answer:
            assert await next_event(answer)
            world.fault(FaultKind.CRASH, down_s=60)
            with pytest.raises(aiohttp.ClientError):
                await rest_of(answer)
        await world.idle()


async def test_a_client_that_leaves_ends_its_request_everywhere(envoy):
    async with pool(envoy, count=1) as world:
        async with world.stream("hello", max_tokens=2000) as answer:
            assert await next_event(answer)
            answer.close()
        await world.idle()
        await until(lambda: not world.replicas[0].driver.engine.running)


async def test_a_client_that_leaves_while_its_request_waits_leaves_the_queue(envoy):
    gate = {"name": "all-busy", "parameters": {"threshold": 0.0}}
    async with pool(envoy, count=1, config={"queue": {"gate": gate}}) as world:
        world.fault(FaultKind.HANG)
        first = asyncio.create_task(world.chat("hello"))
        await until(lambda: world.app.router.in_flight == 1)
        waiting = asyncio.create_task(world.chat("and I"))
        await until(lambda: world.app.router.waiting == 1)
        waiting.cancel()
        await until(lambda: world.app.router.waiting == 0)
        world.fault(FaultKind.NONE)
        assert (await first).status == 200
        await world.idle()


async def test_two_thousand_streams_at_once(envoy):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    count = 2000
    async with pool(envoy, count=4, max_num_seqs=count) as world:
        world.fault(FaultKind.HANG)

        async def read(number):
            async with world.stream(f"stream {number}", max_tokens=2) as answer:
                return answer.status, (await rest_of(answer))[-1]

        streams = [asyncio.create_task(read(number)) for number in range(count)]
        await until(lambda: world.app.router.in_flight == count)
        world.fault(FaultKind.NONE)
        assert set(await asyncio.gather(*streams)) == {(200, b"[DONE]")}
        await world.idle()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
