"""A prefix cache with nothing but an order."""

from __future__ import annotations

from collections import OrderedDict


class LruCache:
    """Blocks by hash, the least recently used first."""

    def __init__(self, capacity_blocks: int | None) -> None:
        """None: unbounded."""
        self._capacity = capacity_blocks
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def use(self, hashes: list[int]) -> tuple[int, list[int], list[int]]:
        """Enter a prompt's blocks.

        Returns how many of them, from the first, were there, the positions of the new ones, and what had to go.
        """
        blocks = self._blocks
        new = [position for position, block in enumerate(hashes) if block not in blocks]
        hits = new[0] if new else len(hashes)
        evicted: dict[int, None] = {}
        for block in hashes:
            blocks[block] = None
            blocks.move_to_end(block)
            if self._capacity is not None and len(blocks) > self._capacity:
                evicted[blocks.popitem(last=False)[0]] = None
        return hits, new, [block for block in evicted if block not in blocks]
