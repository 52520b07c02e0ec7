"""What a router without KV events believes of the caches: which replica was sent prompts that begin like this one.

Other routers keep this as a tree or a table of characters. Here a prompt is cut into chunks of tokens, four characters
for each, and the chunks are kept in the prefix index, so that a match is as long as theirs to within a chunk.
"""

from __future__ import annotations

import numpy as np

from router.core.fleet import Fleet
from router.core.index.prefix_index import PrefixIndex
from router.core.load import Column
from router.core.types import Request
from router.core.view import Candidates
from scorers.peers.blocks import chain_of

CHARS_PER_TOKEN = 4


class SentPrefixes:
    """Remembers prompts by replica, ``max_chunks`` in all: an equal share for each, the least recently sent forgotten
    first."""

    def __init__(self, chunk_tokens: int, max_chunks: int) -> None:
        self.chunk_tokens = chunk_tokens
        self.max_chunks = max_chunks
        self._index = PrefixIndex()
        self._names: dict[int, str] = {}
        """Of the replicas that something is remembered of, by slot."""
        self._fleet_version = -1

    def match(self, request: Request, candidates: Candidates) -> Column:
        """Chunks from the start of the prompt that each candidate was sent before."""
        self._forget_gone(candidates.fleet)
        match = self._index.match(chain_of(request, self.chunk_tokens))
        return match.blocks.take(candidates.slots).astype(np.float64)

    def add(self, request: Request, candidates: Candidates, position: int) -> None:
        """The request goes to ``candidates[position]``."""
        slot = int(candidates.slots[position])
        self._names[slot] = candidates.replicas[position].name
        self._index.remember(slot, chain_of(request, self.chunk_tokens), max(self.max_chunks // len(candidates), 1))

    def _forget_gone(self, fleet: Fleet) -> None:
        """Slots are used again by other replicas."""
        if fleet.version == self._fleet_version:
            return
        self._fleet_version = fleet.version
        for slot, name in list(self._names.items()):
            if fleet.slot(name) != slot:
                self._index.drop(slot)
                del self._names[slot]
