"""Siblings of a fan-out at one cold replica: what they have in common is computed once, however they are sent.

vLLM v1 makes blocks known to its prefix cache when it schedules their tokens, not when it has computed them, so a
sibling that is scheduled in the same step or in a later one already finds them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from router.core.index.hashing import hash_blocks
from sim.engine import Engine, Request, load_profile

SHARED = 30_000
OWN = 2_000
PROFILES = ["llama-3.1-70b-4xh100", "llama-3.1-8b-1xh100", "qwen3-32b-2xh100"]


def sibling(number: int, block_size: int) -> Request:
    tokens = np.arange(SHARED + OWN, dtype=np.uint32)
    tokens[SHARED:] += 100_000 * (number + 1)
    return Request(f"sibling-{number}", len(tokens), 8, hash_blocks(tokens, block_size, 1))


def served(profile: str, siblings: int, apart_s: float) -> tuple[Engine, list[Request], int]:
    """All siblings, each so much later than the one before, and the tokens computed beyond one for each token answered:
    all of the prompts' but the last of each."""
    engine = Engine(load_profile(profile).engine)
    requests = [sibling(number, engine.config.block_size_tokens) for number in range(siblings)]
    now, computed, sent = 0.0, 0, 0
    while sent < siblings or engine.has_work:
        while sent < siblings and sent * apart_s <= now:
            engine.submit(requests[sent], now)
            sent += 1
        result = engine.step(now)
        computed += result.computed_tokens - len(result.emitted)
        now += result.duration_s or apart_s
    return engine, requests, computed


@pytest.mark.parametrize("apart_s", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("siblings", [2, 8, 16])
def test_the_shared_prefix_is_computed_once(profile: str, siblings: int, apart_s: float) -> None:
    engine, requests, computed = served(profile, siblings, apart_s)
    block_size = engine.config.block_size_tokens
    shared = SHARED // block_size * block_size
    assert [each.cached_tokens for each in requests] == [0] + [shared] * (siblings - 1)
    assert engine.preemptions == 0
    once = SHARED + OWN + (siblings - 1) * (SHARED + OWN - shared)
    assert computed == once - siblings


def test_a_cache_too_small_for_all_siblings_still_computes_it_once() -> None:
    """They run one after the other then, and blocks that are in use are not evicted."""
    config = load_profile("llama-3.1-8b-1xh100").engine
    blocks = (SHARED + 2 * (OWN + 16)) // config.block_size_tokens + 2
    engine = Engine(replace(config, num_blocks=blocks, max_model_len_tokens=SHARED + OWN + 64))
    requests = [sibling(number, config.block_size_tokens) for number in range(6)]
    for each in requests:
        engine.submit(each, 0.0)
    now = 0.0
    while engine.has_work:
        now += engine.step(now).duration_s
    shared = SHARED // config.block_size_tokens * config.block_size_tokens
    assert [each.cached_tokens for each in requests] == [0] + [shared] * 5
