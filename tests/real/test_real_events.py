"""What the index knows of real replicas: a cache that is emptied, and histories that began before the router did."""

from __future__ import annotations

import pytest
from real_client import ask
from real_traces import conversation
from replicas import model_directory
from test_real_predictions import EVENTS_ALONE, chat

LOCAL = ("--tokenizer", str(model_directory("tiny")))
LEARN_TIMEOUT_S = 10.0


async def fill(http, url: str, sessions, calls: int = 3) -> None:
    """The first calls of some conversations."""
    for turns in sessions:
        for end in range(1, calls + 1):
            answer = await ask(http, url, chat("tiny", conversation(turns[:end])))
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
