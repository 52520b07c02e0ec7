"""llm-d's ``prefix-cache-affinity-filter`` and ``token-load-scorer``: stay where the prompt is, else least tokens.

Filter (llm-d/llm-d-router, pkg/epp/framework/plugins/scheduling/filter/prefixcacheaffinity/plugin.go, commit
066c20e): replicas that hold at least ``affinity_threshold`` of the prompt's blocks are sticky. Only they stay, unless
there are none, or the best of them would answer more than ``max_ttft_penalty_ms`` later than the best other, where
``TTFT = tokens in flight / peak_prefill_tokens_per_s``.

Score (scorer/tokenload/token_load.go, commit 1b30d10): ``1 - min(1, tokens / queue_threshold_tokens)``, where tokens
are those in flight and those that the request would add. Tokens in flight are the uncached prompt tokens of requests
whose first answer token has not come (dataproducer/inflightload, without estimated output tokens).

llm-d's peak prefill throughput is that of Qwen3-32B on two H100; its guides measure it anew for other deployments.
Replicas that are filtered out score less than all others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router.core.types import Request, Scores
from router.core.view import Candidates, View
from scorers.peers.blocks import block_sizes
from scorers.peers.lexicographic import lexicographic


class LlmDTokenLoad:
    name = "llm-d-token-load"

    def __init__(
        self,
        affinity_threshold: float = 0.8,
        max_ttft_penalty_ms: float = 18_000.0,
        peak_prefill_tokens_per_s: float = 15_928.0,
        queue_threshold_tokens: float = 4_194_304.0,
    ) -> None:
        self.affinity_threshold = affinity_threshold
        self.max_ttft_penalty_ms = max_ttft_penalty_ms
        self.peak_prefill_tokens_per_s = peak_prefill_tokens_per_s
        self.queue_threshold_tokens = queue_threshold_tokens

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        tokens = view.queued_prefill_tokens + request.prompt_tokens - candidates.cached_tokens
        load = np.minimum(tokens / self.queue_threshold_tokens, 1.0)
        return lexicographic(~self._kept(request, candidates, view), load)

    def _kept(self, request: Request, candidates: Candidates, view: View) -> NDArray[np.bool_]:
        everyone = np.ones(len(candidates), np.bool_)
        blocks = request.prompt_tokens // block_sizes(candidates)
        held_blocks = candidates.cached_tokens / block_sizes(candidates)
        sticky = held_blocks / np.maximum(blocks, 1.0) >= self.affinity_threshold
        if not sticky.any():
            return everyone
        ttft_ms = view.queued_prefill_tokens / self.peak_prefill_tokens_per_s * 1000.0
        if not sticky.all() and ttft_ms[sticky].min() - ttft_ms[~sticky].min() > self.max_ttft_penalty_ms:
            return everyone
        return sticky
