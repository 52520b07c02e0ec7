"""What the caches do for each kind of context: system prompts, tools, shared documents, answers, ..."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from sim.cluster import CallRecord
from sim.workloads.program import Context


def hit_rate_by_context(calls: Iterable[CallRecord]) -> dict[str, float]:
    """Of the prompt tokens of each kind, the share that was cached."""
    tokens: Counter[Context] = Counter()
    cached: Counter[Context] = Counter()
    for call in calls:
        for context, count, hits in _parts(call):
            tokens[context] += count
            cached[context] += hits
    return {str(context): cached[context] / tokens[context] for context in Context if tokens[context]}


def kv_share_by_context(calls: Iterable[CallRecord]) -> dict[str, float]:
    """Of the KV memory that prompts take from their start to their end, the share of each kind.

    In token-seconds. Tokens that several calls share count for each of them.
    """
    token_s: defaultdict[Context, float] = defaultdict(float)
    for call in calls:
        held_s = call.ended_s - call.scheduled_s
        for context, count, _ in _parts(call):
            token_s[context] += count * held_s
    total = sum(token_s.values())
    return {str(context): token_s[context] / total for context in Context if token_s[context]}


def _parts(call: CallRecord) -> Iterator[tuple[Context, int, int]]:
    """Kind, tokens and cached tokens of each part of the prompt."""
    cached = call.cached_tokens
    for part in call.step.parts:
        hits = min(part.tokens, cached)
        cached -= hits
        yield part.context, part.tokens, hits
