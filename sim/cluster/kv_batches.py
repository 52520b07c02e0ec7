"""Turns what the engine model says of its cache into the KV events that a router gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from router.core.index.batch import CLEARED, EVENT, REMOVED, STORED, KvBatch
from router.core.types import Hashes, Tier, Tokens
from sim.engine import BlocksRemoved, BlocksStored, KvEvent, Request


class Content(Protocol):
    """What a request's blocks hold."""

    tokens: Tokens
    hashes: Hashes
    """The engine's hash of each full block."""


def make_batch(
    events: Sequence[KvEvent], contents: Mapping[Request, Content], block_size_tokens: int, seed: int
) -> KvBatch:
    """The events of a step, in order; ``seed`` is the chain seed of the model."""
    rows = [(0,) * 9] * len(events)
    hashes: list[Hashes] = []
    tokens: list[Tokens] = []
    first_block = first_token = 0
    for number, event in enumerate(events):
        kind, parent, size, blocks, chained = CLEARED, 0, 0, 0, False
        match event:
            case BlocksStored(request, first, blocks):
                content = contents[request]
                kind, size, chained = STORED, block_size_tokens, first > 0
                parent = content.hashes[first - 1] if chained else 0
                hashes.append(content.hashes[first : first + blocks])
                tokens.append(content.tokens[first * size : (first + blocks) * size])
            case BlocksRemoved(removed):
                kind, blocks = REMOVED, len(removed)
                hashes.append(removed)
        rows[number] = (parent, seed, first_block, first_token, blocks, size, kind, Tier.GPU, chained)
        first_block += blocks
        first_token += blocks * size
    return KvBatch(np.array(rows, EVENT), _joined(hashes, np.uint64), _joined(tokens, np.uint32))


def _joined(arrays: list[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    """One array is taken as it is."""
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else np.empty(0, kind)
