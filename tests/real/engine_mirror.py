"""The engine model beside a real replica: the same requests through both, and what each found in its cache."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp
import numpy as np
from replicas import BLOCK_SIZE_TOKENS, Replica

from router.core.index.hashing import hash_blocks
from sim.engine import Engine, EngineConfig, Request

VOCABULARY = range(100, 1000)
BETWEEN_SENDS_S = 0.03
"""So that requests reach the engine in the order in which they were sent."""


@dataclass(slots=True)
class Asked:
    """One request, and what the real replica made of it."""

    prompt: list[int]
    output_tokens: int
    priority: int = 0
    answer: list[int] = field(default_factory=list)
    cached_tokens: int = -1


@dataclass(slots=True)
class Talk:
    """A conversation: each prompt is the one before, its answer and something new."""

    rng: Random
    tokens: list[int]

    def next(self, new_tokens: int, output_tokens: int, priority: int = 0) -> Asked:
        return Asked(self.tokens + self.rng.choices(VOCABULARY, k=new_tokens), output_tokens, priority)

    def heard(self, asked: Asked) -> None:
        self.tokens = asked.prompt + asked.answer


async def ask(session: aiohttp.ClientSession, replica: Replica, asked: Asked) -> None:
    body = {
        "model": replica.model,
        "prompt": asked.prompt,
        "max_tokens": asked.output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "priority": asked.priority,
        "return_token_ids": True,
    }
    async with session.post(f"{replica.url}/v1/completions", json=body) as response:
        answer: dict[str, Any] = await response.json()
    assert response.status == 200, answer
    asked.answer = answer["choices"][0]["token_ids"]
    asked.cached_tokens = answer["usage"]["prompt_tokens_details"]["cached_tokens"]


async def ask_together(session: aiohttp.ClientSession, replica: Replica, group: list[Asked]) -> None:
    """All are in the engine's queue, in this order, before any of them is scheduled."""
    replica.pause()
    async with asyncio.TaskGroup() as tasks:
        for asked in group:
            tasks.create_task(ask(session, replica, asked))
            await asyncio.sleep(BETWEEN_SENDS_S)
        await asyncio.sleep(4 * BETWEEN_SENDS_S)
        await asyncio.to_thread(replica.resume)


def mirror(config: EngineConfig, groups: list[list[Asked]]) -> tuple[list[int], Engine]:
    """Cached tokens of every request, in order, when each group is served before the next comes."""
    engine = Engine(config)
    found: list[int] = []
    for group in groups:
        requests = [_request(len(found) + number, asked) for number, asked in enumerate(group)]
        for number, request in enumerate(requests):
            engine.submit(request, float(len(found) + number))
        while engine.has_work:
            engine.step(0.0)
        found += [request.cached_tokens for request in requests]
    return found, engine


def _request(number: int, asked: Asked) -> Request:
    assert len(asked.answer) == asked.output_tokens
    tokens = np.array(asked.prompt + asked.answer, np.uint32)
    hashes = hash_blocks(tokens, BLOCK_SIZE_TOKENS, 1)
    return Request(f"{number:06d}", len(asked.prompt), asked.output_tokens, hashes, asked.priority)
