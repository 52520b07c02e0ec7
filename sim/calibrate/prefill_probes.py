"""Times from request to first token, over the prompt's length and the share of it that is cached."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from sim.calibrate.client import Answer, Client
from sim.calibrate.limits import Limits
from sim.calibrate.observation import Kind, Observation, prefill

TRIES = 3
LENGTHS_TOKENS = (64, 256, 1024, 2048, 4096, 8192, 16384, 32768)
PATIENCE_S = 4.0
"""Once a prompt takes longer than this, no longer one is tried, and once a quarter of it, each is tried but once."""

Report = Callable[[Observation], None]


async def probe_prefill(client: Client, limits: Limits, *, caches_prefixes: bool, report: Report) -> list[Observation]:
    """Each length cold, sent again, and as the second half of a prompt whose first half is cached."""
    found: list[Observation] = []
    block_size_tokens = limits.values["block_size_tokens"]
    for tokens in _lengths(limits.values["max_model_len_tokens"] - 1):
        cold: list[Answer] = []
        again: list[Answer] = []
        half: list[Answer] = []
        half_tokens = tokens // 2 // block_size_tokens * block_size_tokens
        while len(cold) < TRIES and not (cold and cold[-1].ttft_s > PATIENCE_S / 4):
            prompt = client.fresh_prompt(tokens)
            cold.append(await client.complete(prompt, 1))
            if caches_prefixes:
                again.append(await client.complete(prompt, 1))
                if half_tokens:
                    other = prompt[:half_tokens] + client.fresh_prompt(tokens - half_tokens)
                    half.append(await client.complete(other, 1))
        hit_tokens = (tokens - 1) // block_size_tokens * block_size_tokens
        for kind, answers, cached in (
            (Kind.PREFILL, cold, 0),
            (Kind.CACHED, again, hit_tokens),
            (Kind.PARTLY_CACHED, half, half_tokens),
        ):
            if answers:
                found.append(_observation(kind, answers, tokens, cached, limits.values["max_num_batched_tokens"]))
                report(found[-1])
        if cold[-1].ttft_s > PATIENCE_S:
            break
    return found


def _lengths(longest_tokens: int) -> list[int]:
    """Those that fit, and the longest possible one when it lies between two of them."""
    fitting = [tokens for tokens in LENGTHS_TOKENS if tokens <= longest_tokens]
    if longest_tokens < LENGTHS_TOKENS[-1] and longest_tokens > 1.3 * (fitting[-1] if fitting else 0):
        fitting.append(longest_tokens)
    return fitting


def _observation(
    kind: Kind, answers: list[Answer], tokens: int, cached_tokens: int, max_num_batched_tokens: int
) -> Observation:
    """What the server says of cached tokens goes before what should be cached: something may have been evicted."""
    said = [answer.cached_tokens for answer in answers if answer.cached_tokens is not None]
    cached_tokens = round(median(said)) if said else cached_tokens
    times_s = [answer.ttft_s for answer in answers]
    steps, work = prefill(tokens, cached_tokens, max_num_batched_tokens)
    what = f"{tokens:,} tokens, {cached_tokens:,} cached" if cached_tokens else f"{tokens:,} tokens"
    spread = (max(times_s) - min(times_s)) / median(times_s)
    return Observation(kind, what, median(times_s), spread, steps, work, tokens)
