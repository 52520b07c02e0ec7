"""Counts in blocks, for routers that weigh blocks of the KV cache rather than tokens."""

from __future__ import annotations

import numpy as np

from router.core.index.hashing import hash_blocks
from router.core.load import Column
from router.core.types import Hashes, Request
from router.core.view import Candidates


def block_sizes(candidates: Candidates) -> Column:
    """Tokens in a block of each candidate's cache."""
    return np.array([replica.block_size_tokens for replica in candidates.replicas], np.float64)


def chain_of(request: Request, block_size_tokens: int) -> Hashes:
    """Chained hashes of the prompt's full blocks; nothing when there is no prompt.

    Adapters and cache salts are not told apart: prompts that differ in them alone count as one.
    """
    prompt = request.prompt
    if prompt is None:
        return np.empty(0, np.uint64)
    return hash_blocks(prompt.token_ids, block_size_tokens, 0, prompt.media)
