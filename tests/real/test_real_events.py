"""What the index knows of real replicas: a cache that is emptied, and histories that began before the router did."""

from __future__ import annotations

import asyncio

import pytest
from real_client import ask
from real_traces import conversation
from replicas import model_directory
from test_real_predictions import EVENTS_ALONE, chat

LOCAL = ("--tokenizer", str(model_directory("tiny")))
LEARN_TIMEOUT_S = 10.0
LONG_HISTORY = 1500
"""Messages; vLLM's replay socket drops what goes beyond 1,000 that are on their way."""


async def fill(http, url: str, sessions, calls: int = 3) -> None:
    """The first calls of some conversations; a router spreads them over all replicas."""
    for end in range(1, calls + 1):
        for turns in sessions:
            answer = await ask(http, url, chat("tiny", conversation(turns[:end])), {"x-weft-profile": "round-robin"})
            assert answer.is_whole, answer


async def test_reset_prefix_cache_empties_the_index(empty_replicas, sessions, weft, http) -> None:
    with weft(empty_replicas, *LOCAL, config=EVENTS_ALONE) as router:
        await fill(http, router.url, sessions[:4])
        assert all(router.index_blocks(replica) > 100 for replica in empty_replicas)
        for replica in empty_replicas:
            replica.reset_prefix_cache()
            replica.step()
            router.wait_until(lambda held=replica: router.index_blocks(held) == 0, LEARN_TIMEOUT_S)
        again = await ask(http, router.url, chat("tiny", conversation(sessions[0][:1])))
        assert (again.predicted_tokens, again.cached_tokens) == (0, 0)
        assert all(router.index_state(replica) == "synced" for replica in empty_replicas)


async def test_vllm_publishes_a_reset_with_its_next_step_and_weft_learns_it_then(
    empty_replicas, sessions, weft, http
) -> None:
    """Until then one prediction is too high: no event has told of the reset."""
    with weft(empty_replicas, *LOCAL, config=EVENTS_ALONE) as router:
        await fill(http, router.url, sessions[:1])
        for replica in empty_replicas:
            replica.reset_prefix_cache()
        known = [router.index_blocks(replica) for replica in empty_replicas]
        assert max(known) > 100
        unaware = await ask(http, router.url, chat("tiny", conversation(sessions[0][:3])))
        assert unaware.cached_tokens == 0 < unaware.predicted_tokens
        aware = await ask(http, router.url, chat("tiny", conversation(sessions[0][:3])))
        assert aware.cached_tokens == aware.predicted_tokens > 0


@pytest.mark.parametrize("restarts", [0, 2])
async def test_a_router_that_starts_late_learns_by_replay(
    empty_replicas, sessions, weft, http, figure, restarts
) -> None:
    """What the replicas hold came from nobody that this router knows: straight from a client, or by a router before."""
    if restarts == 0:
        for number, replica in enumerate(empty_replicas):
            await fill(http, replica.url, sessions[number : number + 3])
    for _ in range(restarts):
        with weft(empty_replicas, *LOCAL, config=EVENTS_ALONE) as router:
            await fill(http, router.url, sessions[:6], calls=2)
            known = [router.index_blocks(replica) for replica in empty_replicas]
    with weft(empty_replicas, *LOCAL, config=EVENTS_ALONE) as router:
        learned = [router.index_blocks(replica) for replica in empty_replicas]
        assert all(blocks > 100 for blocks in learned)
        if restarts:
            assert learned == known
        answers = [await ask(http, router.url, chat("tiny", conversation(turns[:3]))) for turns in sessions[:4]]
    figure(f"learned {learned[0]} and {learned[1]} blocks; cached {[answer.cached_tokens for answer in answers]}")
    assert all(answer.is_predicted for answer in answers), answers
    assert all(answer.cached_tokens > 1000 for answer in answers), answers


async def test_a_history_that_one_replay_cannot_bring(empty_replicas, weft, http, figure) -> None:
    async def store_blocks(url: str) -> None:
        for number in range(LONG_HISTORY):
            body = {"model": "tiny", "prompt": [100 + number, *[5] * 16], "max_tokens": 1}
            async with http.post(f"{url}/v1/completions", json=body) as response:
                assert response.status == 200

    await asyncio.gather(*(store_blocks(replica.url) for replica in empty_replicas))
    learned, took_s = [], []
    for _ in range(4):
        with weft(empty_replicas, *LOCAL) as router:
            learned += [router.index_blocks(replica) for replica in empty_replicas]
            took_s.append(router.ready_after_s)
    figure(f"{LONG_HISTORY} messages each, learned {', '.join(f'{each:.1f}' for each in took_s)} s after the start")
    assert set(learned) == {LONG_HISTORY}
