"""Prefers replicas where a request costs least: itself, those already there, and those to come.

In prompt tokens to compute, or what takes as long:

    cost = queued prefill + uncached * (1 + requests in flight + 2) + 0.3 * context

The request waits for the prefill that is queued before it, then for its own, which stalls each request in flight there
as long. The 2 is for those to come: whatever is computed a second time takes the fleet's time, and its copy takes
memory from other prefixes. Decoding reads the whole context in flight at every step; over an answer of a few hundred
tokens this costs about a third as much as computing the context once (Llama 3.1 on H100). What is held in CPU or disk
offload must be loaded, and counts for less than on the GPU.

Where another replica can compute the prompt (prefill/decode disaggregation), the first two terms cost no more than that
and the transfer of the blocks.

``score = (least cost + 500) / (cost + 500)``: differences that nobody would notice do not count. Replicas are taken to
be equally fast: rates learned online follow the queues more than the hardware, and dividing by them made routing
worse. docs/policies.md says how the weights were found.
"""

from __future__ import annotations

import numpy as np

from router.core.types import Request, Scores
from router.core.view import Candidates, View

_UNNOTICED_TOKENS = 500.0


class AddedCost:
    name = "added-cost"

    def __init__(
        self,
        copy_weight: float = 2.0,
        context_weight: float = 0.3,
        cpu_weight: float = 0.75,
        disk_weight: float = 0.25,
    ) -> None:
        self._copy_weight = copy_weight
        self._context_weight = context_weight
        self._tier_weights = np.array([1.0, cpu_weight, disk_weight])

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        in_flight = view.queued_requests + view.running_requests
        context_tokens = np.maximum(view.context_tokens, view.kv_usage * view.capacity_tokens)
        uncached_tokens = request.prompt_tokens - self._tier_weights @ candidates.tier_tokens
        cost_tokens = uncached_tokens * (1.0 + in_flight + self._copy_weight) + view.queued_prefill_tokens
        if view.elsewhere_tokens is not None:
            cost_tokens = np.minimum(cost_tokens, view.elsewhere_tokens)
        cost_tokens += self._context_weight * context_tokens + _UNNOTICED_TOKENS
        scores: Scores = np.minimum.reduce(cost_tokens) / cost_tokens
        return scores
