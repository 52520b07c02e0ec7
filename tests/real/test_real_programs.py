"""Programs in front of vLLM: contexts are kept within its KV memory, and its own queue hears who comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

import aiohttp
import pytest
from compare_programs import MODEL, WAYS, mix_of, run, table, two_replicas
from real_traces import TRACE
from replicas import Replica

from router.client import Program

IN_FLIGHT = 16
"""Their contexts need three times the caches."""
BETWEEN_SENDS_S = 0.03
UNTIL_ALL_QUEUE_S = 2.0
"""A paused engine does not tell who waits in it."""
PROMPT_TOKENS = 2048
"""What a step computes at most."""


@pytest.fixture(scope="module")
def agents_replicas(prepared: None, logs) -> Iterator[list[Replica]]:
    with two_replicas(logs) as replicas:
        yield replicas


async def first_token_s(session: aiohttp.ClientSession, url: str, seed: int, hints: dict[str, str]) -> float:
    prompt = Random(seed).choices(range(100, 3000), k=PROMPT_TOKENS)
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 1, "ignore_eos": True, "stream": True}
    async with session.post(f"{url}/v1/completions", json=body, headers=hints) as response:
        assert response.status == 200
        await response.content.readany()
        return asyncio.get_running_loop().time()


async def test_the_engine_begins_with_calls_of_short_programs(agents_replicas, weft, http) -> None:
    """All calls are in vLLM's queue, those of long programs first, before any of them is scheduled."""
    replica = agents_replicas[0]
    replica.empty_cache()
    long = [Program("research").step("plan", remaining=5000, output_tokens=2000) for _ in range(4)]
    short = [Program("lookup").step("answer", output_tokens=1, final=True) for _ in range(4)]
    config = {"queue": {"order": "critical-path"}, "programs": {"enabled": True}}
    with weft([replica], config=config) as router:
        replica.pause()
        tasks = []
        for number, hints in enumerate(long + short):
            tasks.append(asyncio.create_task(first_token_s(http, router.url, number, hints)))
            await asyncio.sleep(BETWEEN_SENDS_S)
        await asyncio.sleep(UNTIL_ALL_QUEUE_S)
        replica.resume()
        begun_s = await asyncio.gather(*tasks)
    assert max(begun_s[len(long) :]) <= min(begun_s[: len(long)])


def test_what_programs_have_computed_is_found_again_when_they_come_back(agents_replicas, logs, figure) -> None:
    if not TRACE.is_file():
        pytest.skip(f"the trace {TRACE.name} is not here; name its place in WEFT_TRACE")
    mix = mix_of(seed=1)
    ways = ("requests", "programs")
    served = {name: run(WAYS[name], mix, agents_replicas, IN_FLIGHT, logs / f"weft-{name}.log") for name in ways}
    for line in table([served]).splitlines():
        figure(line)
    assert served["programs"].hit_rate > served["requests"].hit_rate + 0.15
    assert {call.waited_for for call in served["requests"].calls} == {""}
    assert "admission" in {call.waited_for for call in served["programs"].calls}
    assert {call.priority for call in served["requests"].calls} == {None}
    assert None not in {call.priority for call in served["programs"].calls}
