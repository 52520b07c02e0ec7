"""Faults on demand, and what a router sees of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from replica_world import Client, Subscriber, eventually, replica_client, settings, sse

from sim.replica.serving import serve_replicas

LONG = {"prompt": "x", "max_tokens": 1000, "ignore_eos": True}


@asynccontextmanager
async def stream(client: Client, **body: Any) -> AsyncIterator[AsyncIterator[Any]]:
    """A stream of which the first chunk has come."""
    url = client.replica.url + "/v1/completions"
    async with client.session.post(url, json={**LONG, **body, "stream": True}) as response:
        events = sse(response)
        await anext(events)
        yield events


async def test_crash_resets_connections_and_comes_back_with_nothing(client: Client, subscriber: Subscriber) -> None:
    await client.complete(prompt=list(range(100)), max_tokens=1)
    started = await client.metric("process_start_time_seconds")
    port = client.replica.port

    async with stream(client) as events:
        await client.fault("crash", down_s=0.2)
        with pytest.raises(aiohttp.ClientPayloadError, match="reset"):
            _ = [event async for event in events]
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.get("/health")

    await eventually(lambda: client.replica.starts == 2)
    assert client.replica.port == port
    again = await client.complete(prompt=list(range(100)), max_tokens=1)
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert await client.metric("process_start_time_seconds") > started
    assert [batch.sequence for batch in await subscriber.replay(0)] == [0]


async def test_after_a_restart_hashes_and_sequence_begin_anew(client: Client, subscriber: Subscriber) -> None:
    await client.complete(prompt=list(range(100)), max_tokens=1)
    before = await subscriber.batch()
    assert before.sequence > 0

    await client.fault("restart")
    await eventually(lambda: client.replica.starts == 2)
    await client.complete(prompt=list(range(100)), max_tokens=1)
    (after,) = await subscriber.replay(0)

    assert after.sequence == 0
    assert after.stored[0]["token_ids"] == before.stored[0]["token_ids"]
    assert after.stored[0]["block_hashes"] != before.stored[0]["block_hashes"]


async def test_hang_keeps_streams_open_and_silent_until_it_ends(client: Client) -> None:
    async with stream(client, max_tokens=200) as events:
        await client.fault("hang")
        waiting = asyncio.create_task(client.complete(prompt="y", max_tokens=1))
        await eventually(lambda: client.replica.driver.in_flight == 2)
        assert await client.get("/health") == (200, "")
        seen = client.replica.engine.requests.copy()
        await asyncio.sleep(0)
        assert not waiting.done()
        assert client.replica.engine.requests == seen

        await client.fault("none")
        assert [event async for event in events][-1] == "[DONE]"
        assert (await waiting)["usage"]["completion_tokens"] == 1


async def test_slow_multiplies_the_time_of_steps(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def recording(delay_s: float) -> None:
        slept.append(delay_s)
        await sleep(0)

    await client.fault("slow", factor=500)
    monkeypatch.setattr("sim.replica.driver.asyncio.sleep", recording)
    await client.complete(prompt=[1], max_tokens=1)
    assert 0.9 < slept[0] <= 1.0


async def test_refuse_is_a_503_without_retry_after(client: Client) -> None:
    await client.fault("refuse")
    async with client.session.post(client.replica.url + "/v1/chat/completions", json={"messages": []}) as response:
        assert response.status == 503
        assert "Retry-After" not in response.headers
        error = (await response.json())["error"]
    assert (error["code"], error["type"]) == (503, "Service Unavailable")

    event, done = await client.events("/v1/completions", prompt="x")
    assert (event["error"]["code"], done) == (503, "[DONE]")
    assert (await client.get("/health"))[0] == 200

    await client.fault("none")
    await client.complete(prompt="x", max_tokens=1)


async def test_drain_finishes_what_runs_and_begins_nothing(client: Client) -> None:
    async with stream(client, max_tokens=100) as events:
        await client.fault("drain")

        assert (await client.get("/health"))[0] == 200
        answer = await client.complete(prompt=[1, 2, 3])
        assert answer["choices"][0]["text"] == ""
        assert answer["choices"][0]["finish_reason"] == "abort"
        assert answer["usage"]["completion_tokens"] == 0
        assert await client.events("/v1/completions", prompt=[1, 2, 3]) == ["[DONE]"]
        status, error = await client.post("/v1/chat/completions", messages=[{"role": "user", "content": "x"}])
        assert (status, error["error"]["message"]) == (500, "cannot schedule new futures after shutdown")
        assert (await client.post("/v1/completions", prompt="x"))[0] == 500

        *_, last, done = [event async for event in events]
    assert last["choices"][0]["finish_reason"] == "length"
    assert done == "[DONE]"


@pytest.mark.parametrize("replayable", [True, False])
async def test_dropped_events_leave_a_gap_that_a_replay_may_fill(
    client: Client, subscriber: Subscriber, replayable: bool
) -> None:
    await client.fault("drop_events", batches=2, replayable=replayable)
    for start in (100, 200, 300):
        await client.complete(prompt=list(range(start, start + 20)), max_tokens=1)

    seen = await subscriber.batch()
    replayed = await subscriber.replay(seen.sequence - 2)

    assert seen.stored[0]["token_ids"][0] == 300
    dropped = [seen.sequence - 2, seen.sequence - 1] if replayable else []
    assert [batch.sequence for batch in replayed] == [*dropped, seen.sequence]


async def test_a_fault_hits_one_replica_of_a_process() -> None:
    async with serve_replicas(2, settings()) as replicas, aiohttp.ClientSession() as session:
        one, other = (Client(replica, session) for replica in replicas)
        await one.fault("refuse")
        assert (await one.post("/v1/completions", prompt="x"))[0] == 503
        await other.complete(prompt="x", max_tokens=1)
        assert json.loads((await other.get("/kv_event_sources"))[1])["0"]["topic"] == "kv@replica1@tiny"


async def test_stopping_while_down_is_clean() -> None:
    async with replica_client() as client:
        await client.fault("crash", down_s=3600)
        await eventually(lambda: not client.replica._up)
