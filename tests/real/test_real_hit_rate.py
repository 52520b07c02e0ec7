"""Concurrent conversations, KV-aware against round robin: what is found in the caches, and when answers begin."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from statistics import mean, median

import aiohttp
import pytest
from real_client import Answer, ask
from real_traces import Turn, conversation
from replicas import BLOCK_SIZE_TOKENS, Replica, model_directory, running
from test_real_predictions import chat

CONCURRENT = 8
"""Conversations at a time."""
CALLS = 8
"""Per conversation, at most."""
CONVERSATIONS = 12
BLOCKS = 2000
"""Each cache holds more than half of what the conversations that are open need, but not all of it."""
ROUNDS = 2
PROFILES = ("round-robin", "default")


@pytest.fixture(scope="module")
def small_replicas(prepared: None, logs) -> Iterator[list[Replica]]:
    """Of a model slow enough for prefill to be felt."""
    yield from running([Replica("small", BLOCKS, 16384, logs / f"small-{number}.log") for number in range(2)])


async def serve_all(http: aiohttp.ClientSession, url: str, sessions: list[list[Turn]]) -> list[list[Answer]]:
    """A closed loop: each client takes the next conversation when it is done with one."""
    waiting = iter(sessions)
    conversations: list[list[Answer]] = []

    async def client() -> None:
        for turns in waiting:
            answers: list[Answer] = []
            conversations.append(answers)
            for end in range(1, min(len(turns), CALLS) + 1):
                answer = await ask(http, url, chat("small", conversation(turns[:end]), max_tokens=16))
                assert answer.is_whole, answer
                answers.append(answer)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONCURRENT):
            tasks.create_task(client())
    return conversations


def bound_tokens(conversations: list[list[Answer]]) -> int:
    """Prompt tokens that each conversation had sent before: found cached if it never moved and nothing were evicted."""
    prompts = [[answer.prompt_tokens for answer in answers] for answers in conversations]
    return sum(earlier // BLOCK_SIZE_TOKENS * BLOCK_SIZE_TOKENS for each in prompts for earlier in each[:-1])


async def test_more_is_found_in_the_caches_than_by_round_robin(small_replicas, sessions, weft, http, figure) -> None:
    hit_rates: dict[str, list[float]] = {profile: [] for profile in PROFILES}
    ttfts_s: dict[str, list[float]] = {profile: [] for profile in PROFILES}
    for _ in range(ROUNDS):
        for profile in PROFILES:
            for replica in small_replicas:
                replica.empty_cache()
            options = ("--tokenizer", str(model_directory("small")), "--profile", profile)
            with weft(small_replicas, *options) as router:
                conversations = await serve_all(http, router.url, sessions[:CONVERSATIONS])
            answers = [answer for each in conversations for answer in each]
            cached, prompts = (sum(getattr(a, name) for a in answers) for name in ("cached_tokens", "prompt_tokens"))
            first_s = [answer.ttft_s for answer in answers]
            exact = sum(answer.is_predicted for answer in answers)
            share = [sum(answer.replica == replica.name for answer in answers) for replica in small_replicas]
            figure(
                f"{profile}: {len(answers)} requests as {share[0]} + {share[1]}, {prompts} prompt tokens, "
                f"{prompts - cached} computed, hit rate {cached / prompts:.1%} "
                f"(of {bound_tokens(conversations) / prompts:.1%} without moves and evictions), "
                f"TTFT mean {mean(first_s):.3f} s, median {median(first_s):.3f} s; {exact} predictions exact"
            )
            hit_rates[profile].append(cached / prompts)
            ttfts_s[profile].append(mean(first_s))
    ratios = [there / here for there, here in zip(ttfts_s["round-robin"], ttfts_s["default"], strict=True)]
    figure(f"mean TTFT of round robin over KV-aware: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    assert min(hit_rates["default"]) > max(hit_rates["round-robin"])
