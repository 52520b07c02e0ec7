"""The prompt blocks that requests in flight hold on each replica, each counted once however many share it.

ai-dynamo/dynamo counts its decode load like this: lib/kv-router/src/sequences/prompt_registry.rs, commit 312d342,
``active_decode_blocks`` and ``additional_active_blocks``; answers do not count (``router_track_output_blocks`` is
false). What is kept is bounded by the requests in flight.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

from router.core.types import Hashes


class ActiveBlocks:
    """Requests in flight by id, and how many of them hold each block, per replica."""

    def __init__(self) -> None:
        self._holders: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._held: dict[str, tuple[str, list[int]]] = {}

    def count(self, replica: str) -> int:
        """Distinct blocks that are held there."""
        return len(self._holders[replica]) if replica in self._holders else 0

    def count_with(self, replica: str, chain: Hashes) -> int:
        """The same, if a prompt with this chain joined them."""
        return self.count(replica) + len(chain) - self._depth(replica, chain)

    def add(self, request_id: str, replica: str, chain: Hashes) -> None:
        """The request is in flight there. One that is in flight already moves."""
        self.remove(request_id)
        hashes: list[int] = chain.tolist()
        holders = self._holders[replica]
        for block in hashes:
            holders[block] = holders.get(block, 0) + 1
        self._held[request_id] = replica, hashes

    def remove(self, request_id: str) -> None:
        """The request is over, or was never there."""
        replica, hashes = self._held.pop(request_id, ("", []))
        holders = self._holders.get(replica, {})
        for block in hashes:
            holders[block] -= 1
            if not holders[block]:
                del holders[block]
        if not holders:
            self._holders.pop(replica, None)

    def _depth(self, replica: str, chain: Hashes) -> int:
        """Leading blocks of the chain that are held; halving finds it, as whoever holds one holds all before it."""
        holders = self._holders.get(replica)
        if not holders:
            return 0
        return bisect_left(range(len(chain)), True, key=lambda block: int(chain[block]) not in holders)
