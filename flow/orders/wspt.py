"""Weighted shortest prefill first, as NVIDIA Dynamo's router queue has it with ``--router-queue-policy wspt``.

    key = (1 + priority) / max(1, prompt tokens - cached tokens)    higher leaves first

Smith's rule (1956) for the mean time to first token. The cached tokens are those of the replica that holds most of the
prompt when the request joins the queue; the key then stays. Priorities below 0 count as 0. Source: ai-dynamo/dynamo,
lib/kv-router/src/scheduling/policy.rs, ``WsptPolicy``.
"""

from __future__ import annotations

from router.core.flow import Rank, Waiting


class Wspt:
    """By weight over uncached prompt tokens."""

    name = "wspt"

    def rank(self, waiting: Waiting, now: float) -> Rank:
        request = waiting.request
        priority = request.program.priority if request.program is not None else 0
        uncached_tokens = max(1, request.prompt_tokens - waiting.best_cached_tokens())
        return (-(1 + max(0, priority)) / uncached_tokens,)
