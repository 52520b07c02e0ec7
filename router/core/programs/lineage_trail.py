"""A prompt as prefix lineage sees it: the hashes of its full blocks, and a key of the whole."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import xxhash

from router.core.types import Hashes, Prompt


class Trail(NamedTuple):
    """Made by `trail_of`."""

    tenant: str
    hashes: Hashes
    scope: int
    """64-bit key of tenant and model: what it is mixed with meets nothing of others."""
    exact: int
    """64-bit key of the whole prompt, its last partial block included."""
    tokens: int
    """Its length."""


def trail_of(prompt: Prompt, hashes: Hashes, block_size_tokens: int, tenant: str, model: str) -> Trail:
    """``hashes`` are those of the prompt's full blocks, of one block size for all prompts of a tenant and model."""
    scope = _scope(tenant, model)
    exact = whole_key(prompt, hashes, block_size_tokens) ^ scope
    return Trail(tenant, np.ascontiguousarray(hashes, np.uint64), scope, exact, len(prompt))


def whole_key(prompt: Prompt, hashes: Hashes, block_size_tokens: int) -> int:
    """64-bit key of a whole prompt, its last partial block included."""
    start = len(hashes) * block_size_tokens
    key = xxhash.xxh3_64_intdigest(prompt.token_ids[start:].tobytes(), int(hashes[-1]) if start else 0)
    for position, media_key in prompt.media:
        if position >= start:
            key = xxhash.xxh3_64_intdigest(f"{position} {media_key}".encode(), key)
    return key


@lru_cache(maxsize=4096)
def _scope(tenant: str, model: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{len(tenant)} {tenant} {model}".encode("utf-8", "surrogatepass"))
