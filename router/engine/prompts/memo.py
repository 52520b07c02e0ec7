"""A bounded least-recently-used memo: what it holds is counted in bytes, not in entries."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

ENTRY_OVERHEAD_BYTES = 250
"""What CPython spends on one entry beside its payload: dict node, two object headers, tuple."""


class Memo(Generic[K, V]):
    """Maps keys to values, forgetting the least recently used ones when ``capacity_bytes`` is exceeded."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.held_bytes = 0
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, payload_bytes: int) -> None:
        """Remembers ``value``; ``payload_bytes`` is what key and value weigh together."""
        size = payload_bytes + ENTRY_OVERHEAD_BYTES
        if size > self.capacity_bytes:
            return
        replaced = self._entries.pop(key, None)
        if replaced is not None:
            self.held_bytes -= replaced[1]
        self._entries[key] = (value, size)
        self.held_bytes += size
        while self.held_bytes > self.capacity_bytes:
            _, (_, evicted) = self._entries.popitem(last=False)
            self.held_bytes -= evicted
