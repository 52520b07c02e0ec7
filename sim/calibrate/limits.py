"""The engine's limits: as the server tells them, as probes show them, or as the base profile has them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp

from sim.calibrate.batch_limit import find_batch_limit
from sim.calibrate.client import Client
from sim.calibrate.facts import Facts, ask_busy
from sim.engine import EngineConfig

NAMES = ("block_size_tokens", "num_blocks", "max_num_batched_tokens", "max_num_seqs", "max_model_len_tokens")
SEQS = 32
"""Sent at once to see how many run."""


@dataclass(slots=True)
class Limits:
    values: dict[str, int]
    origins: dict[str, str]
    """How each value is known, for a person."""

    @property
    def cache_tokens(self) -> int:
        """What can be held beside vLLM's null block."""
        return (self.values["num_blocks"] - 1) * self.values["block_size_tokens"]

    def learn(self, name: str, value: int, origin: str) -> None:
        self.values[name] = value
        self.origins[name] = origin


def start_with(base: EngineConfig, facts: Facts) -> Limits:
    limits = Limits({name: getattr(base, name) for name in NAMES}, dict.fromkeys(NAMES, "base profile, not learned"))
    for name in NAMES:
        said = getattr(facts, name)
        if said is not None:
            limits.learn(name, said, "the server says so")
    if limits.values["max_model_len_tokens"] > limits.cache_tokens:
        limits.learn("max_model_len_tokens", limits.cache_tokens, "lowered to what the cache holds")
    return limits


async def learn_batch_limit(client: Client, limits: Limits, prompt_tokens: int) -> None:
    name = "max_num_batched_tokens"
    found = await find_batch_limit(client, prompt_tokens)
    settled = found.settle(limits.values[name])
    if found.highest is None:
        if settled is None:
            limits.values[name] = found.lowest
        limits.origins[name] = f"probed: at least {found.lowest:,}; the base profile's if that is more"
    elif settled is None:
        middle = (found.lowest + found.highest) // 2
        limits.learn(name, middle, f"probed: between {found.lowest:,} and {found.highest:,}, the middle is taken")
    else:
        limits.learn(name, settled, f"probed: between {found.lowest:,} and {found.highest:,}")


async def learn_max_num_seqs(client: Client, limits: Limits, session: aiohttp.ClientSession, url: str) -> None:
    prompts = [client.fresh_prompt(16) for _ in range(SEQS)]
    task = asyncio.ensure_future(client.complete_all(prompts, 16))
    running, waited = 0, False
    try:
        while not task.done():
            busy = await ask_busy(session, url)
            running, waited = max(running, busy.running), waited or busy.waiting > 0
            await asyncio.wait([task], timeout=0.02)
        await task
    finally:
        task.cancel()
    if waited and running < SEQS:
        limits.learn("max_num_seqs", running, f"probed: of {SEQS} requests {running} ran at once")
    else:
        limits.origins["max_num_seqs"] = f"base profile, not learned; {running} or more"
