"""Small engines and requests for the tests of the engine model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from router.core.types import Hashes
from sim.engine import Engine, EngineConfig, Policy, Request, StepResult, StepTime

STEP_TIME = StepTime(
    fixed_ps=7_000_000_003,
    prefill_token_ps=28_000_001,
    attention_pair_ps=1_061,
    decode_seq_ps=15_000_007,
    context_token_ps=50_803,
)


def small_engine(
    blocks: int = 64,
    block_size: int = 4,
    budget: int = 64,
    seqs: int = 8,
    max_len: int = 128,
    policy: Policy = Policy.FCFS,
    **more: Any,
) -> Engine:
    """An engine of ``blocks`` usable blocks."""
    return Engine(EngineConfig(STEP_TIME, blocks + 1, block_size, budget, seqs, max_len, policy, **more))


def chained(tokens: Sequence[int], block_size: int = 4) -> Hashes:
    """Hashes of the full blocks of these tokens."""
    hashes, parent = [], 0
    for start in range(0, len(tokens) - block_size + 1, block_size):
        parent = hash((parent, *tokens[start : start + block_size])) % 2**64
        hashes.append(parent)
    return np.array(hashes, np.uint64)


def request(
    name: str, prompt: Sequence[int], output: Sequence[int] = (1,), block_size: int = 4, priority: int = 0
) -> Request:
    hashes = chained([*prompt, *output], block_size)
    return Request(name, len(prompt), len(output), hashes, priority)


def drain(engine: Engine, now: float = 0.0) -> list[StepResult]:
    """Step until nothing is left to do."""
    results = []
    while engine.has_work:
        results.append(engine.step(now))
        now += results[-1].duration_s
    return results


def names(requests: Sequence[Request]) -> list[str]:
    return [one.id for one in requests]
